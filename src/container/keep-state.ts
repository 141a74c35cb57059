import { join } from 'node:path';
import { formatFileName, freshNumber } from '../image/file-names';
import { writeManifest } from '../image/image-file';
import type { LayerFile } from '../image/layer-file';
import type { IndexedFile, ScanOptions } from '../image/state-index';
import { newUuid } from '../uuid';
import { chooseAttach } from './attach-choice';
import { openPresent } from './claim-chain';
import { isDroppedIn, isSealed } from './identity';
import { canReflink } from './reflink';
import { replaceStoppedTop } from './replace-top';
import { copyAsSnapshot, type OwnImage } from './snapshot-direct';
import { requireManifest } from './snapshot-files';
import type { Store } from './store';
import { StoreFiles } from './store-files';
import { openTarget, type Target } from './target';

/**
 * Before a stopped container's present is written to: where clones or older states stand on it, its state is kept, frozen, in a file without a
 * name. The present is then a new top on that; or what it was, where its disk is a whole image and has to stay one, or the host can share blocks.
 */
export async function keepStateOfOthers(store: Store, target: Target, options: Pick<ScanOptions, 'signal' | 'held'> = {}): Promise<void> {
  const { signal } = options;
  const { name } = target;
  if (name === undefined) return;
  const isLinked = await isLinkedBackup(target);
  // Only deltas stand on anything.
  if (!isLinked && !store.hasDeltas()) return;
  const files = await StoreFiles.scan(store, options);
  const top = files.top(name);
  if (!top || !(isLinked || isStoodOn(files, top))) return;
  await using present = await openPresent(store, target, options);
  const manifest = requireManifest(present.top);
  const isKept = files.index.providers(manifest.state).some(({ path }) => path !== top.path);
  if (isKept && !isLinked && !isMerged(files, top)) {
    // One that is sealed gets a state of its own when it is unsealed.
    if (!manifest.sealed) await writeManifest(present.top, { ...manifest, state: newUuid() });
    return;
  }
  const number = freshNumber(store.fileNamesOf(name), name);
  if (!isLinked && (await staysWhole(store, present.top, name))) {
    const path = join(store.containersDirectory, formatFileName({ role: 'nameless', name, number, extension: 'img' }));
    await copyAsSnapshot(store, present.top as OwnImage, path, undefined, { signal, isStoodOn: true });
    return;
  }
  await replaceStoppedTop(store, { name, present, kept: `~${number}`, held: options.held });
  target.path = store.containerPath(name);
}

/** Whether it is sealed, by a merge, and a backup has the same file, which must not change with it. What was dropped in is refused then. */
async function isLinkedBackup(target: Target): Promise<boolean> {
  await using top = await openTarget(target);
  return top.links > 1 && isSealed(top) && !isDroppedIn(top, target.name);
}

/** What is attached directly stays one image; where the host has reflinks, so does what the storage server attaches. */
async function staysWhole(store: Store, top: LayerFile, name: string): Promise<boolean> {
  if (top.kind === 'delta') return false;
  return (await chooseAttach(store, top, { name })) === 'direct' || (await canReflink(store.containersDirectory));
}

/** By a file of its own or of another container, or by a fold that takes its blocks. */
function isStoodOn({ index }: Pick<StoreFiles, 'index'>, top: IndexedFile): boolean {
  return index.isStoodOn(top.manifest) || isMerged({ index }, top);
}

/** Its state is the merge's then: one that names another would lose it. */
function isMerged({ index }: Pick<StoreFiles, 'index'>, top: IndexedFile): boolean {
  return index.foldOf(top, top.manifest.state)?.role === 'to';
}
