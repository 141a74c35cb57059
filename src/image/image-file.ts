import { constants, fstat } from 'node:fs';
import { promisify } from 'node:util';
import { explain, isSystemError, LoopboxError } from '../errors';
import { formatSize, MiB, roundUp } from '../units';
import { closeFile, openFile, readAt, setLength, syncData, writeAt } from './file-io';
import { type FoundManifest, findManifest } from './find-manifest';
import type { Manifest } from './manifest';
import { encodeSlot, encodeSlots, slotLength, slotsLength } from './manifest-slots';
import { parseSuperblock, type Superblock, superblockLength, superblockOffset } from './superblock';

/** Bytes 0-15 of an image that was given a manifest. Set once; says nothing but that there was one. */
const bootMark = Buffer.from('loopbox image\n\0\0', 'latin1');
/** ext4's unused boot block. */
const bootBlockLength = 1024;

export interface OpenImageOptions {
  write?: boolean;
  /** What messages call the image; the path unless told. */
  label?: string;
}

/** An open image at rest. Its descriptor's open file description is what locks and the loop device are given. */
export interface ImageFile extends AsyncDisposable {
  readonly fd: number;
  readonly path: string;
  readonly label: string;
  readonly device: bigint;
  readonly inode: bigint;
  /** How many names the file has. */
  readonly links: number;
  readonly fileSizeBytes: number;
  /** V: where the disk ends. Of a foreign image the file system's own size. */
  readonly sizeBytes: number;
  readonly superblock: Superblock;
  /** Undefined for a foreign image: it has the default config. */
  readonly manifest: Manifest | undefined;
  /** Keys of the manifest that mean nothing to this version and are not acted on. */
  readonly ignored: readonly string[];
  /** Idempotent. */
  close(): Promise<void>;
}

class OpenImage implements ImageFile {
  #closed: Promise<void> | undefined;

  constructor(
    readonly fd: number,
    readonly path: string,
    readonly label: string,
    readonly device: bigint,
    readonly inode: bigint,
    readonly links: number,
    readonly fileSizeBytes: number,
    readonly sizeBytes: number,
    readonly superblock: Superblock,
    public found: FoundManifest | undefined,
  ) {}

  get manifest(): Manifest | undefined {
    return this.found?.manifest;
  }

  get ignored(): readonly string[] {
    return this.found?.ignored ?? [];
  }

  close(): Promise<void> {
    this.#closed ??= closeFile(this.fd);
    return this.#closed;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

/**
 * Opens an image and judges it. NOT_FOUND; IN_USE while a fold holds a lease on it; NOT_SUPPORTED for what is recognized and is no ext4
 * image; CORRUPT for what is not recognized, cut short, or has a wrong checksum, and where the manifest is lost or too small.
 */
export function openImage(path: string, options: OpenImageOptions = {}): Promise<ImageFile> {
  return open(path, options, false);
}

/**
 * Opens an image for `import --rescue`: as `openImage`, but a manifest that is lost, unreadable or too small counts for nothing. The
 * image is then a foreign one of its file system's size, rounded up to 1 MiB (what was grown by hand has an odd size).
 */
export function rescueImage(path: string, options: Pick<OpenImageOptions, 'label'> = {}): Promise<ImageFile> {
  return open(path, options, true);
}

/**
 * Replaces an image's manifest, durably: the older slot is overwritten, so that a cut leaves this one or the last.
 * NOT_SUPPORTED for a foreign image; USAGE for a manifest that does not fit.
 */
export async function writeManifest(image: ImageFile, manifest: Manifest): Promise<void> {
  if (!(image instanceof OpenImage)) throw new TypeError('writeManifest: not an image of openImage');
  if (!image.found) {
    throw new LoopboxError('ERR_LOOPBOX_NOT_SUPPORTED', `Cannot change the config of "${image.label}": it has no manifest`, {
      hint: `loopbox import ${image.path}`,
    });
  }
  if (manifest.sizeBytes !== image.sizeBytes) throw new Error(`writeManifest: "${image.label}" does not have ${manifest.sizeBytes} bytes`);
  const { slot, ignored } = image.found;
  const next = { ...slot, index: slot.index === 0 ? (1 as const) : (0 as const), generation: slot.generation + 1n };
  await writeAt(image.fd, image.sizeBytes + next.index * slotLength, encodeSlot(manifest, next.generation));
  await syncData(image.fd);
  image.found = { manifest, ignored, slot: next };
}

/**
 * Makes the file an image of ours: both slots behind the disk, the boot mark where the boot block is empty, the file's length.
 * For a file that no one else knows; the caller syncs. NOT_SUPPORTED where the size is not a multiple of 1 MiB.
 */
export async function placeManifest(fd: number, sizeBytes: number, manifest: Manifest): Promise<void> {
  if (sizeBytes % MiB !== 0) {
    throw new LoopboxError(
      'ERR_LOOPBOX_NOT_SUPPORTED',
      `Cannot give the image a manifest: its size, ${sizeBytes} bytes, is not a multiple of 1 MiB`,
    );
  }
  const slots = encodeSlots({ ...manifest, sizeBytes });
  await setLength(fd, sizeBytes + slotsLength);
  await writeAt(fd, sizeBytes, slots);
  const boot = await readAt(fd, 0, bootBlockLength);
  if (boot.every((byte) => byte === 0)) await writeAt(fd, 0, bootMark);
}

async function open(path: string, options: OpenImageOptions, rescue: boolean): Promise<OpenImage> {
  const label = options.label ?? path;
  const fd = await openForUse(path, label, options.write ?? false);
  try {
    const status = await promisify(fstat)(fd, { bigint: true });
    if (!status.isFile()) throw notRegular(path, label);
    const fileSizeBytes = Number(status.size);
    const head = await readAt(fd, 0, superblockOffset + superblockLength);
    const superblock = parseSuperblock(head.subarray(superblockOffset));
    if (!superblock) throw await notExt4(fd, label);
    judgeSuperblock(superblock, fileSizeBytes, label);

    const search = findManifest({ fd, fileSizeBytes, fileSystemSizeBytes: superblock.sizeBytes, label });
    const found = await (rescue ? search.catch(forgiveCorrupt) : search);
    const problem = manifestProblem(found, superblock, head);
    if (problem && !rescue) throw corrupt(label, problem, `loopbox import --rescue ${path}`);
    const kept = problem ? undefined : found;
    const ownSize = rescue ? roundUp(superblock.sizeBytes, MiB) : superblock.sizeBytes;
    const sizeBytes = kept?.manifest.sizeBytes ?? ownSize;
    return new OpenImage(fd, path, label, status.dev, status.ino, Number(status.nlink), fileSizeBytes, sizeBytes, superblock, kept);
  } catch (error) {
    await closeFile(fd);
    throw explain(error, `open "${label}"`, { path });
  }
}

async function openForUse(path: string, label: string, write: boolean): Promise<number> {
  try {
    // Never wait for another's lease, nor for a fifo's writer.
    return await openFile(path, (write ? constants.O_RDWR : constants.O_RDONLY) | constants.O_NONBLOCK);
  } catch (error) {
    if (isSystemError(error, 'EISDIR', 'ENXIO')) throw notRegular(path, label);
    if (!isSystemError(error, 'EAGAIN')) throw explain(error, `open "${label}"`, { path });
    throw new LoopboxError('ERR_LOOPBOX_IN_USE', `Cannot open "${label}": another program has reserved it`, { path, cause: error });
  }
}

function judgeSuperblock(superblock: Superblock, fileSizeBytes: number, label: string): void {
  if (!superblock.checksumValid) throw corrupt(label, "its superblock's checksum is wrong");
  if (superblock.sizeBytes === 0) throw corrupt(label, "its superblock's sizes make no sense");
  if (!superblock.isExt4)
    throw new LoopboxError('ERR_LOOPBOX_NOT_SUPPORTED', `Cannot open "${label}": it is an external journal, not ext4`);
  if (superblock.hasForeignJournal) {
    throw new LoopboxError('ERR_LOOPBOX_NOT_SUPPORTED', `Cannot open "${label}": its journal lies on another device`, {
      hint: `tune2fs -O ^has_journal ${label}`,
    });
  }
  if (superblock.sizeBytes > fileSizeBytes) {
    throw corrupt(label, `it is cut short: the file has ${formatSize(fileSizeBytes)}, its file system ${formatSize(superblock.sizeBytes)}`);
  }
}

/** What speaks against the image as its manifest has it. */
function manifestProblem(found: FoundManifest | undefined, superblock: Superblock, head: Buffer): string | undefined {
  if (!found) return head.subarray(0, bootMark.length).equals(bootMark) ? 'its manifest is lost' : undefined;
  if (superblock.sizeBytes <= found.manifest.sizeBytes) return undefined;
  return `its file system (${formatSize(superblock.sizeBytes)}) has outgrown it (${formatSize(found.manifest.sizeBytes)})`;
}

async function notExt4(fd: number, label: string): Promise<LoopboxError> {
  const { identifyContent, identifyLength } = await import('./identify-content');
  const content = identifyContent(await readAt(fd, 0, identifyLength));
  if (!content) return corrupt(label, 'it is not an ext4 image');
  return new LoopboxError('ERR_LOOPBOX_NOT_SUPPORTED', `Cannot open "${label}": it is ${content.name}, not an ext4 image`);
}

function notRegular(path: string, label: string): LoopboxError {
  return new LoopboxError('ERR_LOOPBOX_NOT_SUPPORTED', `Cannot open "${label}": it is not a regular file`, { path });
}

function corrupt(label: string, state: string, hint?: string): LoopboxError {
  return new LoopboxError('ERR_LOOPBOX_CORRUPT', `Cannot open "${label}": ${state}`, { hint });
}

function forgiveCorrupt(error: unknown): undefined {
  if (!(error instanceof LoopboxError && error.code === 'ERR_LOOPBOX_CORRUPT')) throw error;
}
