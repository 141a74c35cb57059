import { native } from '../native';
import { MiB } from '../units';
import { readAt, setLength, syncFile, writeAt } from './file-io';
import { type ImageFile } from './image-file';
import type { Manifest } from './manifest';
import { decodeSlots, encodeSlot, slotsLength } from './manifest-slots';

/**
 * Gives an image more room, durably: the manifest moves to its new end, what it grew by reads as zeroes. The open image knows only its
 * old size: open it anew.
 */
export async function growImage(image: ImageFile, sizeBytes: number): Promise<void> {
  const { fd, manifest, sizeBytes: oldBytes } = image;
  const generation = decodeSlots(await readAt(fd, oldBytes, slotsLength))?.generation;
  if (!manifest || generation === undefined) throw new Error(`growImage: "${image.label}" has no manifest`);
  const grown = { ...manifest, sizeBytes };
  await setLength(fd, sizeBytes + slotsLength);
  await writeAt(fd, sizeBytes, Buffer.concat([encodeSlot(grown, generation + 1n), encodeSlot(grown, generation + 2n)]));
  await syncFile(fd);
  await native().punchHole(fd, oldBytes, slotsLength);
  await syncFile(fd);
}

/**
 * Gives an image less room and another manifest, a step at a time: that is written at its new end, durably, and counts once the file ends
 * there. The open image knows only its old size.
 */
export async function* shrinkImage({ fd, sizeBytes: oldBytes, label }: ImageFile, manifest: Manifest): AsyncGenerator<string> {
  const generation = decodeSlots(await readAt(fd, oldBytes, slotsLength))?.generation;
  if (generation === undefined) throw new Error(`shrinkImage: "${label}" has no manifest`);
  await writeAt(fd, manifest.sizeBytes, Buffer.concat([encodeSlot(manifest, generation + 1n), encodeSlot(manifest, generation + 2n)]));
  await syncFile(fd);
  yield 'its new end has a manifest';
  await setLength(fd, manifest.sizeBytes + slotsLength);
  await syncFile(fd);
}

/**
 * Punches the slots that a grow that was cut short left in the disk, between its file system's end and its own, durably. Returns whether
 * there were any.
 */
export async function punchOldSlots({ fd, superblock, sizeBytes }: ImageFile): Promise<boolean> {
  let isChanged = false;
  const first = Math.ceil(superblock.sizeBytes / MiB) * MiB;
  const data = await native().dataRanges(fd, first, sizeBytes);
  for (let i = 0; i < data.length; i += 2) {
    for (let at = Math.floor((data[i] as number) / MiB) * MiB; at < (data[i + 1] as number); at += MiB) {
      const slot = at >= first ? decodeSlots(await readAt(fd, at, slotsLength)) : undefined;
      if (!slot || (JSON.parse(slot.json) as { sizeBytes?: number }).sizeBytes !== at) continue;
      await native().punchHole(fd, at, slotsLength);
      isChanged = true;
    }
  }
  if (isChanged) await syncFile(fd);
  return isChanged;
}
