import { LoopboxError } from '../errors';
import { reapRun } from '../runtime/reap';
import { inspectRun } from '../runtime/status';
import type { Store } from './store';
import type { Target } from './target';

/** Tidies up after an earlier run, and throws ERR_LOOPBOX_WRONG_STATE where the container runs. For a caller that holds the verb lock. */
export async function requireStopped(store: Store, target: Target, verb: string): Promise<void> {
  const state = await inspectRun(target.directory);
  if (state.running) {
    throw new LoopboxError('ERR_LOOPBOX_WRONG_STATE', `Cannot ${verb} "${target.label}": it is running`, {
      hint: `loopbox stop ${target.label}`,
    });
  }
  await reapRun(target.directory, store.runtime);
}
