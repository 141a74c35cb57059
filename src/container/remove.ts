import { existsSync } from 'node:fs';
import { open, rm } from 'node:fs/promises';
import { LoopboxError } from '../errors';
import { syncDirectory } from '../image/new-file';
import { reapRun } from '../runtime/reap';
import { removeLog } from '../runtime/logs';
import { inspectRun } from '../runtime/status';
import { takeAttachmentLock } from './disk';
import { FileLock, takeVerbLock } from './locks';
import { requireStopped } from './start';
import { stopLocked } from './stop';
import type { Store } from './store';
import { requireName, resolveRun, type Target } from './target';

/** Removes a container of the store with its file, run directory and log. `force` kills it first; ERR_LOOPBOX_USAGE for a FILE. */
export async function removeContainer(store: Store, argument: string, options: { force?: boolean | undefined }): Promise<void> {
  const target = resolveRun(store, argument);
  requireName(target, 'remove');
  await using _lock = await takeVerbLock(target.verbLockPath, target.label);
  if (options.force) await stopLocked(store, target, { timeoutSeconds: 0 });
  await removeLocked(store, target);
}

/**
 * What the monitor of a `run --rm` runs after the container's end: removes a container of the store, or, of a FILE, only what
 * its run left on the host. Waits until whoever watches the run has its exit code.
 */
export async function removeAfterEnd(store: Store, target: Target): Promise<void> {
  await using _lock = await takeVerbLock(target.verbLockPath, target.label);
  if ((await inspectRun(target.directory)).running) return;
  if (target.name !== undefined && !existsSync(target.path)) return;
  await using _watch = target.directory.exists() ? await FileLock.take(target.directory.watchPath, 'exclusive', 10_000) : undefined;
  if (target.name === undefined) await forgetRun(store, target);
  else await removeLocked(store, target);
}

async function removeLocked(store: Store, target: Target): Promise<void> {
  await requireStopped(store, target, 'remove');
  if (existsSync(target.path)) await removeFile(store, target);
  await forgetRun(store, target);
}

async function removeFile(store: Store, target: Target): Promise<void> {
  // A damaged file is removed like any other, so it is not opened as an image.
  await using file = await open(target.path, 'r');
  takeAttachmentLock({ fd: file.fd, path: target.path }, target.label);
  await rm(target.path);
  await syncDirectory(store.containersDirectory);
}

/**
 * Makes a name free whose container's file was taken away: what it left on the host is no part of the next one of that name.
 * Throws ERR_LOOPBOX_WRONG_STATE while it runs. For a caller that holds the verb lock.
 */
export async function forgetFormer(store: Store, target: Target): Promise<void> {
  if ((await inspectRun(target.directory)).running) {
    throw new LoopboxError('ERR_LOOPBOX_WRONG_STATE', `Cannot use the name "${target.label}": a container whose file was taken away runs`, {
      hint: `loopbox stop ${target.label}`,
    });
  }
  await forgetRun(store, target);
}

/** Removes run directory, cgroups and log of a container that does not run. */
async function forgetRun(store: Store, target: Target): Promise<void> {
  await reapRun(target.directory, store.runtime, { killMonitor: true });
  target.directory.remove();
  removeLog(store.logPath(target.id));
}
