import { LoopboxError } from '../errors';
import { inspectRun } from '../runtime/status';
import { takeVerbLock } from './locks';
import { removeFiles } from './remove-files';
import { requireStopped } from './require-stopped';
import { dropReserve } from './reserve';
import { stopLocked } from './stop';
import type { Store } from './store';
import { namedTarget, requireName, resolveRun, type Target, targetOfRun } from './target';
import { forgetLock, forgetRun, removeEnded } from './tidy';
import { lockTarget } from './work';

export interface RemoveOptions {
  /** Kills it first where it runs. */
  force?: boolean | undefined;
  /** Removes its snapshots, too; without it they are ERR_LOOPBOX_WRONG_STATE. */
  snapshots?: boolean | undefined;
}

/**
 * Removes a container of the store with its files, run directory and log, or what is left of one. ERR_LOOPBOX_USAGE for a FILE,
 * ERR_LOOPBOX_IN_USE where other containers stand on its files.
 */
export async function removeContainer(store: Store, argument: string, options: RemoveOptions = {}): Promise<void> {
  const isRest = !argument.includes('/') && !store.containerNames().includes(argument) && store.fileNamesOf(argument).length > 0;
  const target = isRest ? namedTarget(store, argument) : resolveRun(store, argument);
  const name = requireName(target, 'remove');
  await using _lock = await lockTarget(store, target);
  if (options.force) await stopLocked(target, { timeoutSeconds: 0 });
  await requireStopped(store, target, 'remove');
  await removeFiles(store, name, { snapshots: options.snapshots ?? false });
  await forgetRun(store, target);
  await dropReserve(store);
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
