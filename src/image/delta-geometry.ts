import { KiB, MiB, roundUp } from '../units';
import { type Context, refuse } from './schema';

/** What a delta's map counts in. */
export const blockSize = 4 * KiB;
/** A byte of the map is 8 blocks. */
const bytesPerMapByte = 8 * blockSize;
/** The map's place is written out with zeroes as far as this many bytes, a disk of 32 GiB, when the delta is made. */
const maxWrittenMapBytes = MiB;
/** The host's space for it is taken as far as this many bytes, a disk of 1 TiB. */
const maxReservedMapBytes = 32 * MiB;

/** Where in a delta's file things lie. */
export interface Geometry {
  mapOffset: number;
  /** The room for the map; the disk's own part of it is `mapLength`. */
  mapBytes: number;
  dataOffset: number;
}

/** Of a new delta: room for a disk of 8 times the size. */
export function newGeometry(sizeBytes: number): Geometry {
  const mapOffset = MiB;
  const mapBytes = mapLength(8 * sizeBytes);
  return { mapOffset, mapBytes, dataOffset: roundUp(mapOffset + mapBytes, MiB) };
}

/** How much of the map says something about a disk of this size, in whole pages. */
export function mapLength(sizeBytes: number): number {
  return roundUp(sizeBytes / bytesPerMapByte, blockSize);
}

/**
 * How much of a new map is written out with zeroes, so that later writes to it are plain overwrites, and how much has its space on the host, so
 * that they find room: more than the first would make a snapshot's time one of the disk's size. The rest is a hole.
 */
export function preparedMapLength({ mapBytes }: Geometry): { written: number; reserved: number } {
  return { written: Math.min(mapBytes, maxWrittenMapBytes), reserved: Math.min(mapBytes, maxReservedMapBytes) };
}

/** Refuses a delta's manifest whose parts overlap or can't be addressed. */
export function checkGeometry(
  manifest: Partial<Geometry> & { sizeBytes: number },
  context: Context,
): asserts manifest is Geometry & { sizeBytes: number } {
  const { sizeBytes, mapOffset = refuse('mapOffset', 'there', context) } = manifest;
  const { mapBytes = refuse('mapBytes', 'there', context), dataOffset = refuse('dataOffset', 'there', context) } = manifest;
  if (mapOffset % blockSize !== 0 || mapOffset < 64 * KiB) refuse('mapOffset', 'a multiple of 4 KiB behind the manifest', context);
  if (mapBytes % blockSize !== 0 || mapBytes < mapLength(sizeBytes)) refuse('mapBytes', 'a multiple of 4 KiB that holds the map', context);
  if (dataOffset % MiB !== 0 || dataOffset < mapOffset + mapBytes) refuse('dataOffset', 'a multiple of 1 MiB behind the map', context);
  if (!Number.isSafeInteger(dataOffset + sizeBytes)) refuse('dataOffset', 'such that the file can be that long', context);
}
