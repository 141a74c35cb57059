import { readdir } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { LoopboxError } from '../errors';
import { commitTop } from '../image/commit-top';
import { copyView } from '../image/copy-view';
import { formatFileName, freshNumber, parseFileName } from '../image/file-names';
import { placeManifest } from '../image/image-file';
import type { SnapshotRecord } from '../image/manifest';
import { NewFile } from '../image/new-file';
import { type Repair, repairFileSystem } from '../image/repair-filesystem';
import { setReadOnlyFeature } from '../image/superblock';
import { wholeImage } from '../image/whole-image';
import type { WorkOptions } from '../progress';
import { newUuid } from '../uuid';
import type { View } from './open-chain';
import { snapshotNames } from './snapshot-files';
import { timedSnapshotName } from './snapshot-names';
import type { Store } from './store';
import { StoreFiles } from './store-files';

export interface RepairedContainer extends Repair {
  /** The snapshot that is what was there before; null where nothing was lost, and so nothing is kept. */
  kept: string | null;
}

/**
 * Repairs the file system of a stopped container on a copy, one whole image, and makes that its top, as a snapshot does: what was the top
 * stays as a snapshot where anything was dropped, else without a name until it is reclaimed. A cut leaves the one or the other.
 * For a caller that holds the view open, and with it the verb lock.
 */
export async function repairContainer(store: Store, { label: name, chain }: View, options: WorkOptions): Promise<RepairedContainer> {
  const { manifest, path } = chain.top;
  const file = parseFileName(basename(path));
  if (!manifest || file?.role !== 'top') {
    throw new LoopboxError('ERR_LOOPBOX_NOT_SUPPORTED', `Cannot repair "${name}": its file has no manifest`, {
      hint: `loopbox import ${path} NEW-NAME`,
    });
  }
  const directory = store.containersDirectory;
  await using copy = await NewFile.create(directory);
  await copyView(chain.viewLayers(), copy.fd, options);
  const repair = await repairFileSystem(copy.fd, name, directory, options.signal);
  await setReadOnlyFeature(copy.fd, false);
  await placeManifest(copy.fd, chain.sizeBytes, { ...wholeImage(manifest), state: newUuid() });
  options.signal?.throwIfAborted();

  const record = repair.dropped.length + repair.lost.length > 0 ? await recordOfKept(store, name) : undefined;
  const kept = record?.name ?? `~${freshNumber(await readdir(directory), name)}`;
  await copy.publish(join(directory, formatFileName({ role: 'next', name })));
  const commit = { directory, name, extension: file.extension, kept };
  await commitTop(commit, 'image', record);
  return { ...repair, kept: record ? `${name}@${record.name}` : null };
}

async function recordOfKept(store: Store, name: string): Promise<SnapshotRecord> {
  const created = new Date();
  const taken = snapshotNames(await StoreFiles.scan(store), name);
  return {
    name: timedSnapshotName('before-repair', created, (candidate) => taken.has(candidate)),
    created: created.toISOString(),
    consistency: 'stopped',
    description: 'as it was before check --repair',
  };
}
