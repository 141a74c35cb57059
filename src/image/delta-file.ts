import { native } from '../native';
import { isSystemError } from '../errors';
import { formatSize, MiB, roundUp } from '../units';
import { crc32cOfPages, crc32cOfZeroPages } from './crc32c';
import { blockSize, type Geometry, mapLength, newGeometry, preparedMapLength } from './delta-geometry';
import { readAt, writeAt } from './file-io';
import { decodeManifest, type FoundManifest, requireGeneration } from './find-manifest';
import { lengthen, trySetLength } from './lengthen';
import type { DeltaManifest, Manifest } from './manifest';
import { encodeSlots, slotsLength } from './manifest-slots';
import { NewFile } from './new-file';
import { corrupt, type FileAtRest, OpenedFile, type OpenOptions, openAndJudge, type RegularFile } from './opened-file';

const zeroes = Buffer.alloc(MiB);
const extentLength = MiB;

/** An open delta at rest: the blocks that differ from its parent. */
export interface DeltaFile extends FileAtRest, Readonly<Geometry> {
  readonly kind: 'delta';
  readonly manifest: DeltaManifest;
}

class OpenDelta extends OpenedFile implements DeltaFile {
  readonly kind = 'delta';

  constructor(file: RegularFile, found: FoundManifest) {
    super(file, found.manifest.sizeBytes, found, 0);
  }

  override get manifest(): DeltaManifest {
    return this.found?.manifest as DeltaManifest;
  }

  get mapOffset(): number {
    return this.manifest.mapOffset;
  }

  get mapBytes(): number {
    return this.manifest.mapBytes;
  }

  get dataOffset(): number {
    return this.manifest.dataOffset;
  }
}

/** Opens a delta and judges it, without its parent. Errors as of `openLayer`. */
export function openDelta(path: string, options: OpenOptions = {}): Promise<DeltaFile> {
  return openAndJudge(path, options, async (file) => {
    const delta = await judgeDelta(file);
    if (!delta) throw corrupt(file.label, 'it is not a delta');
    return delta;
  });
}

/** Judges an open file as a delta, whose first 64 KiB the caller may have read; undefined for what has no delta's manifest. */
export async function judgeDelta(file: RegularFile, head?: Buffer): Promise<DeltaFile | undefined> {
  const found = decodeManifest(head ?? (await readAt(file.fd, 0, slotsLength)), file.label);
  if (!found) return undefined;
  if (found.manifest.kind !== 'delta') throw corrupt(file.label, 'it begins with the manifest of an image');
  requireGeneration(found, file.label);
  const delta = new OpenDelta(file, found);
  const end = delta.dataOffset + delta.sizeBytes;
  if (end <= file.fileSizeBytes) return delta;
  throw corrupt(file.label, `it is cut short: the file has ${formatSize(file.fileSizeBytes)}, its manifest says ${formatSize(end)}`);
}

export interface NewDeltaOptions {
  /** V: a multiple of 1 MiB. */
  sizeBytes: number;
  /** All but where things lie. */
  manifest: Omit<Manifest, 'kind' | 'sizeBytes' | keyof Geometry | 'fold'>;
  /** The disk's first block, which every new top owns; nothing is owned where it is missing. */
  block0?: Buffer | undefined;
}

/** A delta in the making: whole, but not durable and without a name until it is published. */
export interface NewDelta extends AsyncDisposable {
  file: NewFile;
  manifest: DeltaManifest;
}

/** Makes a delta in `directory`. NOT_SUPPORTED where no file of the host can be that long. */
export async function createDelta(directory: string, { sizeBytes, manifest, block0 }: NewDeltaOptions): Promise<NewDelta> {
  const geometry = newGeometry(sizeBytes);
  const whole: DeltaManifest = { ...manifest, kind: 'delta', sizeBytes, ...geometry };
  const slots = encodeSlots(whole);
  const file = await NewFile.create(directory);
  try {
    // Before anything is written: random first writes would make an extent each, on XFS.
    await native().setExtentSizeHint(file.fd, extentLength);
    await setDeltaLength(file.fd, whole);
    await prepareMap(file.fd, geometry);
    if (block0) {
      if (block0.length !== blockSize) throw new RangeError(`createDelta: a block of ${block0.length} bytes`);
      await writeAt(file.fd, geometry.dataOffset, block0);
      await writeAt(file.fd, geometry.mapOffset, Buffer.from([1]));
    }
    await writeAt(file.fd, 0, slots);
    return { file, manifest: whole, [Symbol.asyncDispose]: () => file.close() };
  } catch (error) {
    await file.close();
    throw error;
  }
}

/** Whether a file in `directory` can be as long as a delta for a disk of this size. */
export async function canHoldDelta(directory: string, sizeBytes: number): Promise<boolean> {
  await using file = await NewFile.create(directory);
  return await trySetLength(file.fd, newGeometry(sizeBytes).dataOffset + sizeBytes);
}

/** Makes a delta's file as long as its manifest wants it. NOT_SUPPORTED where no file of the host can be that long. */
export function setDeltaLength(fd: number, { dataOffset, sizeBytes }: DeltaManifest): Promise<void> {
  return lengthen(fd, dataOffset + sizeBytes, `a delta of ${formatSize(sizeBytes)}`);
}

async function prepareMap(fd: number, geometry: Geometry): Promise<void> {
  const { written, reserved } = preparedMapLength(geometry);
  await writeZeroes(fd, geometry.mapOffset, written);
  if (reserved === written) return;
  const [start, length] = [geometry.mapOffset + written, reserved - written];
  try {
    await native().allocateSpace(fd, start, length);
  } catch (error) {
    if (!isSystemError(error, 'EOPNOTSUPP')) throw error;
    await writeZeroes(fd, start, length);
  }
}

async function writeZeroes(fd: number, offset: number, length: number): Promise<void> {
  for (let done = 0; done < length; done += zeroes.length) await writeAt(fd, offset + done, zeroes.subarray(0, length - done));
}

/** A piece of the map, from the byte `position` of it on: one bit for each block, the lowest first. Ends with the disk. */
export function readMap(delta: DeltaFile, position: number, length: number): Promise<Buffer> {
  const bytes = delta.sizeBytes / blockSize / 8;
  return readAt(delta.fd, delta.mapOffset + position, Math.max(0, Math.min(length, bytes - position)));
}

/** The checksum that a seal keeps: of the map's pages as far as V reaches. */
export async function mapChecksum({ fd, mapOffset, sizeBytes }: DeltaFile): Promise<number> {
  const end = mapOffset + mapLength(sizeBytes);
  // Most of a large disk's map was never written.
  const data = await native().dataRanges(fd, mapOffset, end);
  let [crc, position] = [0, mapOffset];
  for (let i = 0; i < data.length; i += 2) {
    // The host may have smaller blocks.
    const start = Math.max(position, roundUp((data[i] as number) + 1, blockSize) - blockSize);
    const stop = Math.min(end, roundUp(data[i + 1] as number, blockSize));
    crc = crc32cOfZeroPages((start - position) / blockSize, crc);
    for (position = start; position < stop; position = Math.min(stop, position + MiB))
      crc = crc32cOfPages(await readAt(fd, position, Math.min(MiB, stop - position)), crc);
  }
  return crc32cOfZeroPages((end - position) / blockSize, crc);
}

/** Whether a delta owns any block but the first. */
export async function ownsMoreThanBlock0(delta: DeltaFile): Promise<boolean> {
  for (let position = 0; ; position += MiB) {
    const bytes = await readMap(delta, position, MiB);
    if (bytes.length === 0) return false;
    if (position === 0) bytes[0] = (bytes[0] as number) & ~1;
    if (!bytes.equals(zeroes.subarray(0, bytes.length))) return true;
  }
}

/** Whether a delta owns every block that another one owns, as far as its own V reaches. */
export async function coversMap(delta: DeltaFile, other: DeltaFile): Promise<boolean> {
  for (let position = 0; ; position += MiB) {
    const [bytes, wanted] = await Promise.all([readMap(delta, position, MiB), readMap(other, position, MiB)]);
    const length = Math.min(bytes.length, wanted.length);
    if (length === 0) return true;
    for (let index = 0; index < length; index++) if ((wanted[index] as number) & ~(bytes[index] as number)) return false;
  }
}
