import { explain, isSystemError, LoopboxError } from '../errors';
import { replayJournal } from '../image/check-filesystem';
import { LiveClone } from '../image/clone-live';
import { copyImage } from '../image/copy-image';
import { setLength } from '../image/file-io';
import { type ImageFile, writeManifest } from '../image/image-file';
import type { Manifest, SnapshotRecord } from '../image/manifest';
import { NewFile } from '../image/new-file';
import { sealNewImage } from '../image/seal';
import { readSuperblock } from '../image/superblock';
import type { WorkOptions } from '../progress';
import { newUuid } from '../uuid';
import type { Store } from './store';
import type { FrozenWork } from './coming-freeze';

/** An image with a manifest. */
export type OwnImage = ImageFile & { readonly manifest: Manifest };

/**
 * Copies the disk of a stopped container, whose file the caller has claimed, to `path`: a whole image, sealed; a reflink where the host can. One
 * that is no snapshot has no record.
 * Where others stand on the container's state, the copy takes it over and the container's own becomes another.
 */
export async function copyAsSnapshot(
  store: Store,
  image: OwnImage,
  path: string,
  record: SnapshotRecord | undefined,
  options: WorkOptions & { isStoodOn: boolean },
): Promise<'reflink' | 'copy'> {
  await using file = await NewFile.create(store.containersDirectory);
  const how = await copyImage(image.fd, file.fd, image.sizeBytes, options);
  await publishCopy(file, image, path, record, options.isStoodOn ? image.manifest.state : newUuid(), options.signal);
  if (options.isStoodOn) await writeManifest(image, { ...image.manifest, state: newUuid() });
  return how;
}

/**
 * As `copyAsSnapshot`, of a container that runs: `frozen` does its work around a freeze of the file system inside, and tells of it.
 * Throws ERR_LOOPBOX_NOT_SUPPORTED where the host has no reflinks.
 */
export async function cloneAsSnapshot(
  store: Store,
  image: OwnImage,
  path: string,
  frozen: (work: FrozenWork) => Promise<SnapshotRecord>,
  signal?: AbortSignal,
): Promise<SnapshotRecord> {
  await using file = await NewFile.create(store.containersDirectory);
  const live = new LiveClone(file.fd, image.fd);
  const record = await frozen({ ahead: () => live.ahead(signal), body: () => live.finish() });
  await setLength(file.fd, image.sizeBytes);
  await publishCopy(file, image, path, record, newUuid(), signal);
  return record;
}

async function publishCopy(
  file: NewFile,
  image: OwnImage,
  path: string,
  snapshot: SnapshotRecord | undefined,
  state: string,
  signal: AbortSignal | undefined,
): Promise<void> {
  // A sealed file system is never mounted writable, so nobody else could do it.
  if ((await readSuperblock(file.fd))?.needsRecovery) await replayJournal(file.fd, image.label, signal);
  signal?.throwIfAborted();
  await sealNewImage(file.fd, image.sizeBytes, { ...image.manifest, state, ...(snapshot && { snapshot }) });
  try {
    await file.publish(path);
  } catch (error) {
    if (!isSystemError(error, 'EEXIST')) throw explain(error, `write "${path}"`);
    throw new LoopboxError('ERR_LOOPBOX_EXISTS', `Cannot write "${path}": it exists`, { path, cause: error });
  }
}
