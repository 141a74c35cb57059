import { dirname, join } from 'node:path';
import { explaining, LoopboxError } from '../errors';
import { formatFileName } from '../image/file-names';
import { renameDurably } from '../image/new-file';
import { findSnapshot, requireFreeSnapshotName } from './snapshot-files';
import { checkSnapshotName, requireSnapshotArgument } from './snapshot-names';
import type { Store } from './store';
import { workOn } from './work';

/** Gives a snapshot another name, whether its container runs or not: its file is renamed, nothing is written. */
export function renameSnapshot(store: Store, argument: string, newName: string): Promise<void> {
  return explaining(`rename the snapshot "${argument}"`, () => rename(store, argument, newName));
}

async function rename(store: Store, argument: string, newName: string): Promise<void> {
  const { container, snapshot } = requireSnapshotArgument(argument);
  checkSnapshotName(newName);
  if (newName === snapshot) throw new LoopboxError('ERR_LOOPBOX_USAGE', `Cannot rename the snapshot "${argument}": it has this name`);
  await using work = await workOn(store, container, 'rename snapshots of');
  const { path, manifest } = findSnapshot(work.files, container, snapshot);
  requireFreeSnapshotName(work.files, container, newName);
  const extension = manifest.kind === 'image' ? 'img' : 'delta';
  await renameDurably(path, join(dirname(path), formatFileName({ role: 'snapshot', name: container, snapshot: newName, extension })));
}
