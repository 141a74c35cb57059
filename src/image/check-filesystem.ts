import { LoopboxError } from '../errors';
import { run, type RunResult } from '../process';
import { parseFindings } from './e2fsck-output';

/** Writes what ext4's journal still holds to its place, and changes nothing else. CORRUPT where that can't be done. */
export async function replayJournal(fd: number, label: string, signal?: AbortSignal): Promise<void> {
  const result = await runE2fsck(fd, ['-E', 'journal_only', '-p'], signal);
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
  const { code, stdout, stderr } = await runE2fsck(fd, ['-f', '-n'], signal);
  if (code === 0) return [];
  const found = parseFindings(stdout).map(({ text }) => text);
  return found.length > 0
    ? found
    : parseFindings(stderr)
        .map(({ text }) => text)
        .concat(`e2fsck ended with ${code}`);
}

/**
 * Runs e2fsck on an open file, whatever comes of it: 1 and 2 is repaired, 4 not repaired, 8 could not work; they add up. Where the host's disk
 * fails, or is full, that is no finding: e2fsck would go on without the block, or fill it with zeroes. FAILED, or NO_SPACE.
 */
export async function runE2fsck(fd: number, args: string[], signal?: AbortSignal): Promise<RunResult> {
  const result = await run('e2fsck', [...args, '/dev/fd/3'], { fds: [fd], signal, okCodes: Array.from({ length: 16 }, (_, code) => code) });
  requireWorkingDisk('e2fsck', `${result.stdout}\n${result.stderr}`);
  return result;
}

/** Throws FAILED, or NO_SPACE, where a program of e2fsprogs says that the host's disk failed it, which it may take for damage. */
export function requireWorkingDisk(command: string, output: string): void {
  const line = output.split('\n').find((one) => diskFailure.test(one.trim()));
  if (line === undefined) return;
  const code = /no space left/i.test(line) ? 'ERR_LOOPBOX_NO_SPACE' : 'ERR_LOOPBOX_FAILED';
  throw new LoopboxError(code, `Cannot finish "${command}": ${line.replace(/\. +[A-Z][^.?]*\? .*$/, '').trim()}`);
}

/** As part of a message: names of files that are quoted in one may say anything. */
const diskFailure = /(^|\(|: )(input\/output error|no space left on device)(?=\)| while |$)/i;

function damaged(label: string, state: string, problems: string[]): LoopboxError {
  return new LoopboxError('ERR_LOOPBOX_CORRUPT', `Cannot use "${label}": ${state}: ${problems.slice(0, 3).join('; ')}`, {
    hint: `e2fsck -f ${label}`,
  });
}
