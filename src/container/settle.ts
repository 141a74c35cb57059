import { explaining } from '../errors';
import type { PendingFile } from '../image/reclaim';
import { settle } from '../image/settle';
import type { WorkOptions } from '../progress';
import { mergeContext } from './merge';
import { requireStopped } from './require-stopped';
import type { Store } from './store';
import { workOn } from './work';

export interface Settled {
  name: string;
  /** The paths of its files, its present first. */
  files: string[];
  /** What is still to be merged, and what is in the way. */
  pending: PendingFile[];
}

/**
 * Brings a stopped container to its plainest form: its present in one image, or, where it stands on another's file, in one delta; the snapshots that are kept
 * as deltas beside it. May be stopped anywhere and goes on from there; a start in between ends it (ERR_LOOPBOX_WRONG_STATE).
 */
export function settleContainer(store: Store, argument: string, options: WorkOptions = {}): Promise<Settled> {
  return explaining(`settle "${argument}"`, async () => {
    await using work = await workOn(store, argument, 'settle', options.signal);
    await requireStopped(store, work.target, 'settle');
    const pending = await settle(mergeContext(store, work, options, 'settle'));
    return { name: work.name, files: pathsOf(store, work.name), pending };
  });
}

function pathsOf(store: Store, name: string): string[] {
  const present = store.containerPath(name);
  const others = store.fileNamesOf(name).map((fileName) => `${store.containersDirectory}/${fileName}`);
  return [present, ...others.filter((path) => path !== present).sort()];
}
