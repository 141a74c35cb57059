import { LoopboxError } from '../errors';
import { run } from '../process';
import { parseFindings } from './e2fsck-output';

/** Writes what ext4's journal still holds to its place, and changes nothing else. CORRUPT where that can't be done. */
export async function replayJournal(fd: number, label: string, signal?: AbortSignal): Promise<void> {
  const result = await run('e2fsck', ['-E', 'journal_only', '-p', '/dev/fd/3'], { fds: [fd], signal, okCodes: allCodes });
  if (result.code > 1) {
    const words = parseFindings(`${result.stdout}\n${result.stderr}`).map(({ text }) => text);
    throw damaged(label, 'its journal can not be replayed', words);
  }
}

/** `e2fsck -fn`: CORRUPT where the file system is not clean. Writes nothing, and leaves a journal that is not replayed out of account. */
export async function checkFileSystem(fd: number, label: string, signal?: AbortSignal): Promise<void> {
  const problems = await findProblems(fd, signal);
  if (problems.length > 0) throw damaged(label, 'its file system is damaged', problems);
}

/** As `checkFileSystem`: all that is wrong, in e2fsck's words; nothing where the file system is clean. */
export async function findProblems(fd: number, signal?: AbortSignal): Promise<string[]> {
  const { code, stdout, stderr } = await run('e2fsck', ['-f', '-n', '/dev/fd/3'], { fds: [fd], signal, okCodes: allCodes });
  if (code === 0) return [];
  const found = parseFindings(stdout).map(({ text }) => text);
  return found.length > 0
    ? found
    : parseFindings(stderr)
        .map(({ text }) => text)
        .concat(`e2fsck ended with ${code}`);
}

/** 1 and 2: repaired, 4: not repaired, 8: could not work; they add up. */
const allCodes = Array.from({ length: 16 }, (_, code) => code);

function damaged(label: string, state: string, problems: string[]): LoopboxError {
  return new LoopboxError('ERR_LOOPBOX_CORRUPT', `Cannot use "${label}": ${state}: ${problems.slice(0, 3).join('; ')}`, {
    hint: `e2fsck -f ${label}`,
  });
}
