import { LoopboxError } from '../errors';
import { type RunResult, run } from '../process';

/** Writes what ext4's journal still holds to its place, and changes nothing else. CORRUPT where that can't be done. */
export async function replayJournal(fd: number, label: string, signal?: AbortSignal): Promise<void> {
  const result = await run('e2fsck', ['-E', 'journal_only', '-p', '/dev/fd/3'], { fds: [fd], signal, okCodes: allCodes });
  if (result.code > 1) throw damaged(label, 'its journal can not be replayed', result);
}

/** `e2fsck -fn`: CORRUPT where the file system is not clean. Writes nothing, and leaves a journal that is not replayed out of account. */
export async function checkFileSystem(fd: number, label: string, signal?: AbortSignal): Promise<void> {
  const result = await run('e2fsck', ['-f', '-n', '/dev/fd/3'], { fds: [fd], signal, okCodes: allCodes });
  if (result.code !== 0) throw damaged(label, 'its file system is damaged', result);
}

/** 1 and 2: repaired, 4: not repaired, 8: could not work; they add up. */
const allCodes = Array.from({ length: 16 }, (_, code) => code);

function damaged(label: string, state: string, { stdout, stderr }: RunResult): LoopboxError {
  const words = `${stdout}\n${stderr}`
    .split('\n')
    .filter((line) => line.trim() && !/^(e2fsck \d|Pass \d|\/dev\/fd\/3: \d+\/\d+ files)/.test(line))
    .slice(0, 3)
    .join('; ');
  return new LoopboxError('ERR_LOOPBOX_CORRUPT', `Cannot use "${label}": ${state}: ${words}`, { hint: `e2fsck -f ${label}` });
}
