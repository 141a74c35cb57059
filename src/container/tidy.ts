import { existsSync } from 'node:fs';
import { reapRun } from '../runtime/reap';
import { inspectRun } from '../runtime/status';
import { FileLock } from './locks';
import type { Store } from './store';
import type { Target } from './target';

/**
 * Removes what an ended run left, where no command works on it now and the monitor has done its part. A run directory without a
 * container or file keeps nothing.
 */
export async function tidy(store: Store, target: Target): Promise<void> {
  const state = await inspectRun(target.directory);
  if (state.running || state.monitorAlive) return;
  const orphaned = target.name === undefined ? state.record === undefined && state.last === undefined : !existsSync(target.path);
  if (!orphaned && !target.directory.hasRemains()) return;
  await using lock = await FileLock.take(target.verbLockPath, 'exclusive', 0);
  if (!lock) return;
  await reapRun(target.directory, store.runtime, { killMonitor: false });
  if (orphaned) target.directory.remove();
}
