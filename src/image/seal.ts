import { LoopboxError } from '../errors';
import { crc32c } from './crc32c';
import { fileStatus, readAt, syncFile } from './file-io';
import { type ImageFile, placeManifest, writeManifest } from './image-file';
import type { Manifest } from './manifest';
import { slotsLength } from './manifest-slots';
import { setReadOnlyFeature, superblockChecksumOffset, superblockOffset } from './superblock';

/** What a sealed file looked like: a rw mount, `e2fsck -fy` and `tune2fs` change it; a ro mount, `e2fsck -fn` and a copy do not. */
type SealEvidence = NonNullable<Manifest['sealed']>;

/**
 * Makes a file that no one else knows a sealed image: ext4's `read-only` feature, then the manifest with the evidence. The caller syncs.
 * Fails as `placeManifest`.
 */
export async function sealNewImage(fd: number, sizeBytes: number, manifest: Manifest): Promise<void> {
  await setReadOnlyFeature(fd, true);
  const sealed: SealEvidence = { lengthBytes: sizeBytes + slotsLength, superblockCrc32c: await superblockChecksum(fd) };
  await placeManifest(fd, sizeBytes, { ...manifest, sealed });
}

/**
 * Opens a sealed image for writing again, durably. The manifest goes first: a cut leaves at most ext4's feature set, so this is also
 * for an image whose manifest is unsealed and whose superblock is still read-only. Idempotent.
 */
export async function unseal(image: ImageFile): Promise<void> {
  if (image.manifest?.sealed) {
    const { sealed: _, ...manifest } = image.manifest;
    await writeManifest(image, manifest);
  }
  await setReadOnlyFeature(image.fd, false);
  await syncFile(image.fd);
}

/** Throws CORRUPT where a sealed image is not what was sealed. Does nothing for one that is not sealed. */
export async function verifySeal(image: ImageFile): Promise<void> {
  const sealed = image.manifest?.sealed;
  if (!sealed) return;
  const { size } = await fileStatus(image.fd);
  const changed =
    size !== sealed.lengthBytes ? 'its length' : (await superblockChecksum(image.fd)) !== sealed.superblockCrc32c && 'its file system';
  if (!changed) return;
  throw new LoopboxError('ERR_LOOPBOX_CORRUPT', `Cannot use "${image.label}": ${changed} was changed after it was sealed`, {
    path: image.path,
    hint: 'restore the file from a copy',
  });
}

/** Without ext4's own checksum at its end: a CRC over bytes and their CRC is the same for all bytes. */
async function superblockChecksum(fd: number): Promise<number> {
  return crc32c(await readAt(fd, superblockOffset, superblockChecksumOffset));
}
