import type { IndexedFile } from '../image/state-index';
import { pendingOf } from './container-files';
import { snapshotNames } from './snapshot-files';
import type { StoreFiles } from './store-files';

/** What is done with a container's files without being asked: only what has no name is merged, or all is brought to one file. */
export type Duty = 'reclaim' | 'settle';

/** Undefined where there is nothing to be done. Where snapshots are kept, they stay what they are. */
export function dutyOf(files: StoreFiles, name: string): Duty | undefined {
  const isPending = files.ofContainer(name).some((file) => pendingOf(files, file) !== undefined);
  if (snapshotNames(files, name).size > 0) return isPending ? 'reclaim' : undefined;
  return isPending || isFoldable(files, name) ? 'settle' : undefined;
}

/** Whether its present is a delta, and what that stands on is its own and nobody else's. */
function isFoldable(files: StoreFiles, name: string): boolean {
  const top = files.top(name);
  const root = top && files.chain(top).at(-1);
  const isOwn = (file: IndexedFile) => file.directory === top?.directory && file.parsed?.name === name;
  return root !== undefined && root !== top && root.manifest.kind === 'image' && isOwn(root) && files.above(root).every(isOwn);
}
