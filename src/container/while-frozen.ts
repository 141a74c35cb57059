import { Freezer, type Thaw } from '../runtime/freeze';
import type { RunRecord } from '../runtime/run-directory';
import type { Target } from './target';

/** `body` is done while a file system is frozen, `ahead` right before, when it has been synced. */
export interface FrozenWork {
  ahead?: () => Promise<void>;
  body: () => Promise<void>;
}

/** Does a work while the file system of a container that runs is frozen, and synced right before. */
export async function whileFrozen(target: Target, run: RunRecord, work: FrozenWork, signal: AbortSignal | undefined): Promise<Thaw> {
  await using freezer = await Freezer.prepare(target.directory, run, signal);
  await freezer.sync();
  await work.ahead?.();
  await freezer.freeze();
  await work.body();
  const { frozenMs, held } = await freezer.thaw();
  return { frozenMs: Math.round(frozenMs * 10) / 10, held };
}
