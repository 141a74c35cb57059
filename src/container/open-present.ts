import { existsSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { LoopboxError } from '../errors';
import type { LayerFile } from '../image/layer-file';
import { FileLock } from './locks';
import type { Store } from './store';
import { openTarget, type Target } from './target';

/** A command may give a container another present meanwhile: that takes two renames at most, and moments. */
const attempts = 20;
const attemptMs = 10;

/**
 * Opens the file of a target for who only looks, without its verb lock: of a container of the store what is its present now, which the target's
 * path tells then. NOT_FOUND as `openTarget`.
 */
export async function openPresent(store: Store, target: Target): Promise<LayerFile> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await openTarget(target);
    } catch (error) {
      const hasGone = error instanceof LoopboxError && error.code === 'ERR_LOOPBOX_NOT_FOUND';
      if (!hasGone || target.name === undefined || attempt === attempts) throw error;
      const isBusy = FileLock.isHeld(target.verbLockPath);
      target.path = store.containerPath(target.name);
      if (existsSync(target.path)) continue;
      if (!isBusy) throw error;
      await sleep(attemptMs);
    }
  }
}
