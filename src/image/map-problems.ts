import { native } from '../native';
import { MiB } from '../units';
import type { DeltaFile } from './delta-file';
import { blockSize } from './delta-geometry';
import { readAt } from './file-io';

/**
 * What is wrong with a delta's map beside its checksum, which `verifySeal` looks at: no block behind the end of the disk is ever written, so
 * a bit there was set by nobody who knows the format.
 */
export async function mapProblems(delta: DeltaFile): Promise<string[]> {
  const { fd, mapOffset, mapBytes, sizeBytes } = delta;
  // V is a multiple of 1 MiB, so its part of the map ends with a byte.
  const ranges = await native().dataRanges(fd, mapOffset + sizeBytes / blockSize / 8, mapOffset + mapBytes);
  for (let i = 0; i < ranges.length; i += 2) {
    const end = ranges[i + 1] as number;
    for (let position = ranges[i] as number; position < end; position += MiB) {
      const bytes = await readAt(fd, position, Math.min(MiB, end - position));
      if (bytes.some((byte) => byte !== 0)) return ['its map has blocks behind the end of its disk'];
    }
  }
  return [];
}
