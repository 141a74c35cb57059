import { readlinkSync } from 'node:fs';
import { flockSync } from 'fs-ext';
import { explain, isSystemError } from './errors';

export type LockKind = 'exclusive' | 'shared';

/**
 * flock(2) on an open descriptor, without waiting. The lock belongs to the open file description: it lives on in whatever
 * the description is given to (a loop device), and ends with its last holder. Returns false where another holds it;
 * ERR_LOOPBOX_NOT_SUPPORTED where the file system keeps no locks.
 */
export function tryLock(fd: number, kind: LockKind): boolean {
  try {
    flockSync(fd, kind === 'exclusive' ? 'exnb' : 'shnb');
    return true;
  } catch (error) {
    if (isSystemError(error, 'EAGAIN', 'EWOULDBLOCK')) return false;
    throw explainLock(error, fd);
  }
}

/** What fs-ext throws has an errno of the wrong sign, its own spelling of the system call, and no file. */
function explainLock(error: unknown, fd: number): unknown {
  if (!isSystemError(error)) return error;
  const path = readlinkSync(`/proc/self/fd/${fd}`);
  const text = error.message.replace(/^[A-Z]+, /, '').toLowerCase();
  const shaped = Object.assign(new Error(`${error.code}: ${text}, flock '${path}'`), {
    errno: -Math.abs(error.errno),
    code: error.code,
    syscall: 'flock',
    path,
  });
  return explain(shaped, `lock "${path}"`);
}
