import { dirname, join } from 'node:path';
import { explaining, LoopboxError } from '../errors';
import { copyView } from '../image/copy-view';
import { formatFileName } from '../image/file-names';
import { flatten } from '../image/flatten';
import { placeManifest } from '../image/image-file';
import { openLayer } from '../image/layer-file';
import { NewFile, syncDirectory } from '../image/new-file';
import { sealNewImage } from '../image/seal';
import { type IndexedFile, StateIndex } from '../image/state-index';
import { setReadOnlyFeature } from '../image/superblock';
import { unlinkNeedless } from '../image/unlink-file';
import { wholeImage } from '../image/whole-image';
import type { WorkOptions } from '../progress';
import { takeAttachmentLock } from './disk';
import { structureWaitMs, takeStructureLock } from './locks';
import { mergeContext } from './merge';
import { openChain } from './open-chain';
import { requireStopped } from './require-stopped';
import type { Store } from './store';
import { workOn } from './work';

export interface Flattened {
  name: string;
  path: string;
  sizeBytes: number;
}

/**
 * Makes the present of a stopped container one image that needs no other file; what it stood on goes, where nobody else needs it.
 * Throws ERR_LOOPBOX_WRONG_STATE where it runs.
 */
export function flattenContainer(store: Store, argument: string, options: WorkOptions = {}): Promise<Flattened> {
  return explaining(`flatten "${argument}"`, async () => {
    await using work = await workOn(store, argument, 'flatten', options.signal);
    await requireStopped(store, work.target, 'flatten');
    const pending = await flatten(mergeContext(store, work, options, 'flatten'));
    const path = store.containerPath(work.name);
    await using present = await openLayer(path, { label: work.name });
    if (present.kind === 'image') return { name: work.name, path, sizeBytes: present.sizeBytes };
    const waits = pending.map(({ fileName, reason }) => `"${fileName}" waits: ${reason}`).join('; ');
    throw new LoopboxError('ERR_LOOPBOX_IN_USE', `Cannot flatten "${work.name}": ${waits || 'it is in use'}`, { path });
  });
}

/**
 * Puts a whole image of the same state in the place of a delta, under its name. Whatever stands on the state goes on doing so. A cut leaves the
 * delta, or both, of which `recover` takes the delta away. For the holder of the verb lock of its container, which does not run.
 */
export async function makeWhole(store: Store, file: IndexedFile, label: string, options: WorkOptions): Promise<void> {
  const { parsed } = file;
  if (!parsed || !('extension' in parsed)) throw new Error(`makeWhole: "${file.path}"`);
  const path = join(dirname(file.path), formatFileName({ ...parsed, extension: 'img' }));
  await writeWhole(store, file, path, label, options);
  await using _lock = await takeStructureLock(store, 'exclusive', structureWaitMs);
  const index = await StateIndex.scan([dirname(path)], { containersDirectory: store.containersDirectory });
  const whole = index.files.find((one) => one.path === path);
  if (!whole) throw new LoopboxError('ERR_LOOPBOX_NOT_FOUND', `Cannot flatten "${label}": "${path}" was taken away`, { path });
  await unlinkNeedless(file, { why: 'provided', by: whole });
  await syncDirectory(dirname(path));
}

async function writeWhole(store: Store, { path: from }: IndexedFile, path: string, label: string, options: WorkOptions): Promise<void> {
  await using chain = await openChain(store, { path: from, label }, { signal: options.signal });
  for (const layer of chain.layers) await takeAttachmentLock(layer, layer.label, layer === chain.top ? 'exclusive' : 'shared');
  await using image = await NewFile.create(dirname(path));
  await copyView(chain.viewLayers(), image.fd, options);
  options.signal?.throwIfAborted();
  const { manifest } = chain.top;
  if (!manifest) throw new Error(`"${from}" has no manifest`);
  const { snapshot, sealed } = manifest;
  const whole = { ...wholeImage(manifest), ...(snapshot && { snapshot }) };
  if (sealed) await sealNewImage(image.fd, chain.sizeBytes, whole);
  else {
    await setReadOnlyFeature(image.fd, false);
    await placeManifest(image.fd, chain.sizeBytes, whole);
  }
  await image.publish(path);
}
