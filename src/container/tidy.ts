import { rmSync } from 'node:fs';
import { LoopboxError } from '../errors';
import { removeLog } from '../runtime/logs';
import { reapRun } from '../runtime/reap';
import { inspectRun } from '../runtime/status';
import { awaitDetached } from './await-detached';
import { FileLock } from './locks';
import { isOwnPast } from './past';
import { removeFilesUnlessNeeded } from './remove-files';
import { dropReserve } from './reserve';
import type { Store } from './store';
import { resolveTarget, type Target } from './target';

/** Removes what an ended run left, where no command works on it now and the monitor has done its part. */
export async function tidy(store: Store, target: Target): Promise<void> {
  if (!(await isUntidy(store, target))) return;
  await using lock = await FileLock.take(target.verbLockPath, 'exclusive', 0);
  // Judged anew: a run may have begun meanwhile.
  if (!lock || !(await isUntidy(store, target))) return;
  if (isOrphaned(store, target)) await forgetRun(store, target);
  else await finishRun(store, target, 0);
}

async function isUntidy(store: Store, target: Target): Promise<boolean> {
  const state = await inspectRun(target.directory);
  return !state.running && !state.monitorAlive && (target.directory.hasRemains() || isOrphaned(store, target));
}

/** Whether a FILE's path leads elsewhere, or nowhere: no one can ask for its run any more. */
function isOrphaned(store: Store, { id, name, directory }: Target): boolean {
  if (name !== undefined) return false;
  const file = (directory.readRecord() ?? directory.readLast())?.file;
  try {
    return file === undefined || resolveTarget(store, file).id !== id;
  } catch (error) {
    return error instanceof LoopboxError && error.code === 'ERR_LOOPBOX_NOT_FOUND';
  }
}

/**
 * What follows a run's end, for the holder of the verb lock: what the run left on the host goes, and, where `run --rm` promised that
 * and its monitor can't do it any more, the container. That is left to who still waits to read how the run ended, after `watchMs`.
 */
export async function finishRun(store: Store, target: Target, watchMs: number): Promise<void> {
  const state = await inspectRun(target.directory);
  if (state.running) return;
  if (!state.record?.hasExitCommand) await reapRun(target.directory, store.runtime);
  else if (!state.monitorAlive) await removeEnded(store, target, watchMs);
}

/** Does what `run --rm` promised: removes a container of the store, or, of a FILE, only what its run left on the host. */
export async function removeEnded(store: Store, target: Target, watchMs: number): Promise<void> {
  await using watch = await FileLock.take(target.directory.watchPath, 'exclusive', watchMs);
  if (!watch) return;
  if (target.name !== undefined && (await isOwnPast(target))) {
    const record = target.directory.readRecord();
    if (record) await awaitDetached(record);
    await removeFilesUnlessNeeded(store, target.name);
  }
  await forgetRun(store, target);
  await dropReserve(store);
}

/** Removes all that the host has of a container that does not run but its file. For the holder of the verb lock. */
export async function forgetRun(store: Store, target: Target): Promise<void> {
  await reapRun(target.directory, store.runtime);
  target.directory.remove();
  removeLog(store.logPath(target.id));
  forgetLock(target);
}

/** Removes the lock of a FILE of whose runs nothing is left: there would be one more with each throw-away copy. */
export function forgetLock({ name, directory, verbLockPath }: Target): void {
  if (name === undefined && !directory.exists()) rmSync(verbLockPath, { force: true });
}
