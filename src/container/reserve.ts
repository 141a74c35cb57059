import { fstatSync, fsync, ftruncate, rmSync, statSync } from 'node:fs';
import { statfs } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { isSystemError, LoopboxError } from '../errors';
import { native } from '../native';
import { MiB } from '../units';
import { FileLock } from './locks';
import type { Store } from './store';

const truncateFd = promisify(ftruncate);
const syncFd = promisify(fsync);

const reserveBytes = 256 * MiB;
/** Less than the least low-water mark (64 MiB): writes that wait for space must not go on with what a verb has freed for itself. */
const stepBytes = 16 * MiB;
/** What has to stay free beside a whole reserve: a small or nearly full host gets none. */
const spareBytes = 3 * reserveBytes;
const patienceMs = 5000;

type Place = Pick<Store, 'root' | 'containerNames'>;

function pathOf(store: Pick<Store, 'root'>): string {
  return join(store.root, '.reserve');
}

/**
 * Makes the store's reserve, a file whose space verbs that free space can fall back on, or fills it up again, where the host has four times
 * as much space free. Elsewhere there is none, and that is no error.
 */
export async function ensureReserve(store: Place): Promise<void> {
  try {
    if (reservedBytes(store) < reserveBytes && (await hasRoom(store))) await allocate(store);
  } catch (error) {
    if (!isSystemError(error) && !(error instanceof LoopboxError)) throw error;
  }
}

async function allocate(store: Place): Promise<void> {
  await using lock = await FileLock.take(pathOf(store), 'exclusive', 0);
  if (!lock) return;
  const { size } = fstatSync(lock.fd);
  try {
    await native().allocateSpace(lock.fd, 0, reserveBytes);
  } catch (error) {
    // Others were faster.
    await truncateFd(lock.fd, size);
    if (size === 0) rmSync(pathOf(store), { force: true });
    throw error;
  }
}

/** The host's space that the reserve takes. */
export function reservedBytes(store: Place): number {
  return (statSync(pathOf(store), { throwIfNoEntry: false })?.blocks ?? 0) * 512;
}

/**
 * Runs the body of a verb that frees space. Where it fails for want of space it is run again with another piece of the reserve set free, until there
 * is nothing left of that: it has to go on where it was, or start over. The reserve is filled again once there is room.
 */
export async function withReserve<T>(store: Place, body: () => Promise<T>): Promise<T> {
  for (let isTaken = false; ; isTaken = true) {
    try {
      const result = await body();
      if (isTaken) await ensureReserve(store);
      return result;
    } catch (error) {
      if (!isForWantOfSpace(error) || !(await takeStep(store))) throw error;
    }
  }
}

/** Takes the reserve away from a store that has no container any more. */
export async function dropReserve(store: Place): Promise<void> {
  if (store.containerNames().length > 0 || !statSync(pathOf(store), { throwIfNoEntry: false })) return;
  await using lock = await FileLock.take(pathOf(store), 'exclusive', 0);
  if (lock) rmSync(pathOf(store), { force: true });
}

/** Returns false where the reserve is used up, or there is none. */
async function takeStep(store: Place): Promise<boolean> {
  if (!statSync(pathOf(store), { throwIfNoEntry: false })) return false;
  await using lock = await FileLock.take(pathOf(store), 'exclusive', patienceMs);
  if (!lock) return false;
  const { size } = fstatSync(lock.fd);
  if (size === 0) return false;
  await truncateFd(lock.fd, Math.max(0, size - stepBytes));
  // Journaling file systems give blocks out again when their release is committed.
  await syncFd(lock.fd);
  return true;
}

async function hasRoom(store: Place): Promise<boolean> {
  const { bavail, bsize } = await statfs(store.root);
  return bavail * bsize - (reserveBytes - reservedBytes(store)) >= spareBytes;
}

function isForWantOfSpace(error: unknown): boolean {
  return (error instanceof LoopboxError && error.code === 'ERR_LOOPBOX_NO_SPACE') || isSystemError(error, 'ENOSPC', 'EDQUOT');
}
