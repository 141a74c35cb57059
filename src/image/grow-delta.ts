import { LoopboxError } from '../errors';
import { formatSize } from '../units';
import { type DeltaFile, setDeltaLength } from './delta-file';
import { mapLength } from './delta-geometry';
import { syncFile } from './file-io';
import { writeManifest } from './image-file';

/**
 * Gives a delta that is a top more room, durably: what it grew by reads as zeroes. Whoever serves it is told afterwards. The open delta knows only its
 * old size: open it anew. NOT_SUPPORTED where its map has no room for that.
 */
export async function growDelta(delta: DeltaFile, sizeBytes: number): Promise<void> {
  const { fd, manifest, label, mapBytes } = delta;
  if (mapLength(sizeBytes) > mapBytes) {
    throw new LoopboxError(
      'ERR_LOOPBOX_NOT_SUPPORTED',
      `Cannot grow "${label}" to ${formatSize(sizeBytes)}: its map has no room for that`,
      {
        hint: 'loopbox clone, or loopbox flatten',
      },
    );
  }
  await setDeltaLength(fd, { ...manifest, sizeBytes });
  await syncFile(fd);
  await writeManifest(delta, { ...manifest, sizeBytes });
}
