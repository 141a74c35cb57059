import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { isSystemError } from '../errors';
import { isAlive, readProcess } from '../runtime/processes';
import { FileLock } from './file-lock';

/**
 * The lock of the one process that merges a container's files without being asked, `settle@NAME` beside the verb lock. Its file says which
 * process that is: whoever has to wait for it may kill it.
 */
export interface UnaskedLock extends AsyncDisposable {
  path: string;
}

function pathOf(verbLockPath: string): string {
  return join(dirname(verbLockPath), `settle@${basename(verbLockPath)}`);
}

/** Undefined where another process is at it. */
export async function takeUnaskedLock(verbLockPath: string): Promise<UnaskedLock | undefined> {
  const path = pathOf(verbLockPath);
  // Who only looks whether it is held holds it for that long.
  const lock = await FileLock.take(path, 'exclusive', 100);
  if (!lock) return undefined;
  writeFileSync(path, `${process.pid} ${readProcess(process.pid)?.start}`);
  const close = async () => {
    rmSync(path, { force: true });
    await lock.close();
  };
  return { path, [Symbol.asyncDispose]: close };
}

export function isMergedUnasked(verbLockPath: string): boolean {
  return FileLock.isHeld(pathOf(verbLockPath));
}

/** Kills who merges the container's files unasked, if anybody does; the next command that looks at the container has it go on. */
export function endUnasked(verbLockPath: string): void {
  if (!isMergedUnasked(verbLockPath)) return;
  const [pid = 0, start = 0] = textOf(pathOf(verbLockPath)).split(' ').map(Number);
  if (pid === process.pid || !isAlive({ pid, start })) return;
  try {
    process.kill(pid, 'SIGKILL');
  } catch (error) {
    if (!isSystemError(error, 'ESRCH')) throw error;
  }
}

function textOf(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    if (isSystemError(error, 'ENOENT')) return '';
    throw error;
  }
}
