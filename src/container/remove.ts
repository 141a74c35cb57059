import { existsSync } from 'node:fs';
import { LoopboxError } from '../errors';
import { inspectRun } from '../runtime/status';
import { takeVerbLock } from './locks';
import { requireStopped } from './start';
import { stopLocked } from './stop';
import type { Store } from './store';
import { requireName, resolveRun, type Target, targetOfRun } from './target';
import { forgetLock, forgetRun, removeEnded, removeFile } from './tidy';

/** Removes a container of the store with its file, run directory and log. `force` kills it first; ERR_LOOPBOX_USAGE for a FILE. */
export async function removeContainer(store: Store, argument: string, options: { force?: boolean | undefined } = {}): Promise<void> {
  const target = resolveRun(store, argument);
  requireName(target, 'remove');
  await using _lock = await takeVerbLock(target.verbLockPath, target.label);
  if (options.force) await stopLocked(target, { timeoutSeconds: 0 });
  await requireStopped(store, target, 'remove');
  if (existsSync(target.path)) await removeFile(store, target);
  await forgetRun(store, target);
}

/**
 * What the monitor of a `run --rm` runs after the container's end, by the run's id: does what was promised, once whoever watches the run
 * has its exit code. Done where there is no such run.
 */
export async function removeAfterEnd(store: Store, id: string): Promise<void> {
  if (!store.runIds().includes(id)) return;
  const target = targetOfRun(store, id);
  await using _lock = await takeVerbLock(target.verbLockPath, target.label);
  const { running, record } = await inspectRun(target.directory);
  if (!running && record?.hasExitCommand) await removeEnded(store, target, 10_000);
  // Of one that another command has removed meanwhile.
  forgetLock(target);
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
