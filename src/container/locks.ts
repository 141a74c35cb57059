import { closeSync, fstatSync, mkdirSync, openSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Descriptor } from '../descriptor';
import { isSystemError, LoopboxError } from '../errors';
import { type LockKind, tryLock } from '../flock';

export { type LockKind, tryLock } from '../flock';

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

/** How long a command waits for another one that works on the same container. */
const verbLockWaitMs = 10_000;

/** The verb lock of a container: held by a command while it works on it. Throws ERR_LOOPBOX_LOCKED after 10 s. */
export async function takeVerbLock(path: string, label: string, signal?: AbortSignal): Promise<FileLock> {
  const lock = await FileLock.take(path, 'exclusive', verbLockWaitMs, signal);
  if (lock) return lock;
  throw new LoopboxError('ERR_LOOPBOX_LOCKED', `Cannot work on "${label}": another command has been at it for 10 s`, {
    hint: 'wait for the other command to end, then try again',
  });
}

/** How long a command waits for the structure of a store: it is held for moments. */
export const structureWaitMs = 10_000;

/**
 * The structure lock of a store: shared by who adds a child to a state or attaches a chain, exclusive for who removes a file that others may
 * stand on, or ends a merge; never held while data is copied. Tried for `waitMs`, then ERR_LOOPBOX_LOCKED: who holds a container's verb
 * lock already and wants another's, too, only tries (FileLock.take with 0).
 */
export async function takeStructureLock(store: { root: string }, kind: LockKind, waitMs: number, signal?: AbortSignal): Promise<FileLock> {
  const lock = await FileLock.take(join(store.root, '.structure'), kind, waitMs, signal);
  if (lock) return lock;
  throw new LoopboxError('ERR_LOOPBOX_LOCKED', `Cannot change what stands on what in "${store.root}": another command is at it`, {
    hint: 'wait for the other command to end, then try again',
  });
}
