import { closeSync, fstatSync, mkdirSync, openSync, statSync } from 'node:fs';
import { dirname } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Descriptor } from '../descriptor';
import { isSystemError } from '../errors';
import { type LockKind, tryLock } from '../flock';

/** A lock on a file of its own (`.locks/NAME`), which is made where it is missing. Only who holds it, exclusively, may unlink it. */
export class FileLock extends Descriptor {
  /** Takes the lock, trying for `waitMs`; undefined where it is still held then. */
  static async take(path: string, kind: LockKind, waitMs: number, signal?: AbortSignal): Promise<FileLock | undefined> {
    for (const deadline = Date.now() + waitMs; ; await sleep(20, undefined, signal && { signal })) {
      const lock = new FileLock(openLockFile(path));
      let isTaken = false;
      try {
        isTaken = tryLock(lock.fd, kind) && isNamed(lock.fd, path);
      } finally {
        if (!isTaken) await lock.close();
      }
      if (isTaken) return lock;
      if (Date.now() >= deadline) return undefined;
    }
  }

  /** Whether some other command holds the lock now. A file that is missing is held by no one. */
  static isHeld(path: string): boolean {
    let fd: number;
    try {
      fd = openSync(path, 'r');
    } catch (error) {
      if (isSystemError(error, 'ENOENT')) return false;
      throw error;
    }
    try {
      return !tryLock(fd, 'shared');
    } finally {
      closeSync(fd);
    }
  }
}

/** Whether nobody unlinked the file between its opening and its lock: others lock its successor. */
function isNamed(fd: number, path: string): boolean {
  const { dev, ino } = fstatSync(fd);
  const named = statSync(path, { throwIfNoEntry: false });
  return named?.ino === ino && named.dev === dev;
}

function openLockFile(path: string): number {
  try {
    return openSync(path, 'a', 0o600);
  } catch (error) {
    if (!isSystemError(error, 'ENOENT')) throw error;
    mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
    return openSync(path, 'a', 0o600);
  }
}
