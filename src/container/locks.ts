import { join } from 'node:path';
import { LoopboxError } from '../errors';
import type { LockKind } from '../flock';
import { FileLock } from './file-lock';
import { endUnasked } from './unasked';

export { type LockKind, tryLock } from '../flock';
export { FileLock } from './file-lock';

/** How long a command waits for another one that works on the same container; and for one that nobody asked for, which it then kills. */
const verbLockWaitMs = 10_000;
const unaskedWaitMs = 150;

/** The verb lock of a container: held by a command while it works on it. Throws ERR_LOOPBOX_LOCKED after 10 s. */
export async function takeVerbLock(path: string, label: string, signal?: AbortSignal): Promise<FileLock> {
  const lock = await FileLock.take(path, 'exclusive', unaskedWaitMs, signal);
  if (lock) return lock;
  endUnasked(path);
  const later = await FileLock.take(path, 'exclusive', verbLockWaitMs - unaskedWaitMs, signal);
  if (later) return later;
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
