import { Freezer, type Thaw } from '../runtime/freeze';
import type { RunRecord } from '../runtime/run-directory';
import type { Target } from './target';

/** Calls `body` while the file system of a container that runs is frozen, and synced right before. */
export async function whileFrozen(
  target: Target,
  run: RunRecord,
  body: () => Promise<void>,
  signal: AbortSignal | undefined,
): Promise<Thaw> {
  await using freezer = await Freezer.prepare(target.directory, run, signal);
  await freezer.sync();
  await freezer.freeze();
  await body();
  const { frozenMs, held } = await freezer.thaw();
  return { frozenMs: Math.round(frozenMs * 10) / 10, held };
}
