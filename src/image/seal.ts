import { LoopboxError } from '../errors';
import { crc32c } from './crc32c';
import { mapChecksum } from './delta-file';
import { fileStatus, readAt, syncFile } from './file-io';
import type { HeldFiles } from './held-files';
import { placeManifest, writeManifest } from './image-file';
import type { LayerFile } from './layer-file';
import type { Manifest, SealRecord } from './manifest';
import { slotsLength } from './manifest-slots';
import { isInMerge } from './state-index';
import { setReadOnlyFeature, superblockChecksumOffset, superblockLength, superblockOffset, withoutReadOnlyFeature } from './superblock';

/**
 * Makes a file that no one else knows a sealed image: ext4's `read-only` feature, then the manifest with the evidence. The caller syncs.
 * Fails as `placeManifest`.
 */
export async function sealNewImage(fd: number, sizeBytes: number, manifest: Manifest): Promise<void> {
  await setReadOnlyFeature(fd, true);
  const sealed: SealRecord = { lengthBytes: sizeBytes + slotsLength, superblockCrc32c: await superblockChecksum(fd) };
  await placeManifest(fd, sizeBytes, { ...manifest, sealed });
}

/**
 * Opens a sealed file for writing again, durably, with these `changes` to its manifest: it will hold another state. The manifest goes
 * first: a cut leaves at most an image whose superblock is still read-only, which this is also for. A delta may need a block 0 of its
 * own after it (`ownBlock0`). Idempotent.
 */
export async function unseal(file: LayerFile, changes: Partial<Manifest> = {}): Promise<void> {
  if (file.manifest?.sealed) {
    const { sealed: _, ...manifest } = file.manifest;
    await writeManifest(file, { ...manifest, ...changes });
  }
  if (file.kind === 'delta') return;
  await setReadOnlyFeature(file.fd, false);
  await syncFile(file.fd);
}

/**
 * Seals a file that nobody writes to any more, durably: an image's `read-only` feature first, so that a cut never leaves evidence that
 * does not fit; none where a merge writes to the file. `changes` are other keys of the manifest. Nothing is done where it is sealed and
 * nothing changes. Idempotent.
 */
export async function seal(
  file: LayerFile,
  changes: Partial<Pick<Manifest, 'snapshot' | 'name' | 'state'>> = {},
  held?: HeldFiles,
): Promise<void> {
  const { manifest } = file;
  if (!manifest) throw new Error(`seal: "${file.label}" has no manifest`);
  if (manifest.sealed && Object.keys(changes).length === 0) return;
  await syncFile(file.fd);
  if (file.kind === 'image') {
    await setReadOnlyFeature(file.fd, true);
    await syncFile(file.fd);
  }
  const sealed = manifest.sealed ?? ((await isInMerge(file, held)) ? await lengthOf(file) : await evidenceOf(file));
  await writeManifest(file, { ...manifest, ...changes, sealed });
}

/** What a file looks like now, for its manifest. Of an image: it must be read-only already, durably. */
export async function evidenceOf(file: LayerFile): Promise<SealRecord> {
  const length = await lengthOf(file);
  if (file.kind === 'image') return { ...length, superblockCrc32c: await superblockChecksum(file.fd) };
  return { ...length, mapCrc32c: await mapChecksum(file) };
}

async function lengthOf({ fd }: LayerFile): Promise<SealRecord> {
  return { lengthBytes: (await fileStatus(fd)).size };
}

/** Throws CORRUPT where a sealed file is not what was sealed. Does nothing for one that is not sealed. */
export async function verifySeal(file: LayerFile): Promise<void> {
  const sealed = file.manifest?.sealed;
  if (!sealed) return;
  const changed = await changedPart(file, sealed);
  if (!changed) return;
  throw new LoopboxError('ERR_LOOPBOX_CORRUPT', `Cannot use "${file.label}": ${changed} was changed after it was sealed`, {
    path: file.path,
    hint: 'restore the file from a copy',
  });
}

async function changedPart(file: LayerFile, sealed: SealRecord): Promise<string | undefined> {
  const { size } = await fileStatus(file.fd);
  if (size !== sealed.lengthBytes) return 'its length';
  if (file.kind === 'image') {
    const wanted = sealed.superblockCrc32c;
    return wanted === undefined || wanted === (await superblockChecksum(file.fd)) ? undefined : 'its file system';
  }
  return sealed.mapCrc32c === undefined || sealed.mapCrc32c === (await mapChecksum(file)) ? undefined : 'its map';
}

/**
 * Without ext4's own checksum at its end: a CRC over bytes and their CRC is the same for all bytes. And as if it were not read-only: a seal
 * sets that feature first and writes the manifest at the file's end later, and a copy that was begun before has the one, not the other.
 */
async function superblockChecksum(fd: number): Promise<number> {
  const bytes = await readAt(fd, superblockOffset, superblockLength);
  return crc32c(withoutReadOnlyFeature(bytes).subarray(0, superblockChecksumOffset));
}
