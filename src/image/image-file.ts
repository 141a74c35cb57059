import { LoopboxError } from '../errors';
import { formatSize, MiB, roundUp } from '../units';
import { readAt, setLength, syncData, writeAt } from './file-io';
import { decodeManifest, type FoundManifest, findManifest } from './find-manifest';
import type { Manifest } from './manifest';
import { encodeSlot, encodeSlots, slotLength, slotsLength } from './manifest-slots';
import { corrupt, type FileAtRest, OpenedFile, type OpenOptions, openAndJudge, type RegularFile } from './opened-file';
import { parseSuperblock, type Superblock, superblockLength, superblockOffset } from './superblock';

/** Bytes 0-15 of an image that was given a manifest. Set once; says nothing but that there was one. */
const bootMark = Buffer.from('loopbox image\n\0\0', 'latin1');
/** ext4's unused boot block. */
const bootBlockLength = 1024;

/** An open image at rest. */
export interface ImageFile extends FileAtRest {
  readonly kind: 'image';
  /** V: where the disk ends. Of a foreign image the file system's own size. */
  readonly sizeBytes: number;
  readonly superblock: Superblock;
  /** Undefined for a foreign image: it has the default config. */
  readonly manifest: Manifest | undefined;
}

class OpenImage extends OpenedFile implements ImageFile {
  readonly kind = 'image';

  constructor(
    file: RegularFile,
    sizeBytes: number,
    readonly superblock: Superblock,
    found: FoundManifest | undefined,
  ) {
    super(file, sizeBytes, found, sizeBytes);
  }
}

/**
 * Opens an image and judges it. NOT_FOUND; IN_USE while a fold holds a lease on it; NOT_SUPPORTED for what is recognized and is no ext4
 * image; CORRUPT for what is not recognized, cut short, or has a wrong checksum, and where the manifest is lost or too small.
 */
export function openImage(path: string, options: OpenOptions = {}): Promise<ImageFile> {
  return openAndJudge(path, options, (file) => judgeImage(file));
}

/**
 * Opens an image for `import --rescue`: as `openImage`, but a manifest that is lost, unreadable or too small counts for nothing. The
 * image is then a foreign one of its file system's size, rounded up to 1 MiB (what was grown by hand has an odd size).
 */
export function rescueImage(path: string, options: Pick<OpenOptions, 'label'> = {}): Promise<ImageFile> {
  return openAndJudge(path, options, (file) => judgeImage(file, { rescue: true }));
}

/**
 * Replaces the manifest of an image or a delta, durably: the older slot is overwritten, so that a cut leaves this one or the last. Where it can't
 * be made durable, the last one is read again.
 * NOT_SUPPORTED for a foreign image; USAGE for a manifest that does not fit.
 */
export async function writeManifest(file: FileAtRest, manifest: Manifest): Promise<void> {
  if (!(file instanceof OpenedFile)) throw new TypeError('writeManifest: not a file that was opened here');
  if (!file.found) {
    throw new LoopboxError('ERR_LOOPBOX_NOT_SUPPORTED', `Cannot change the config of "${file.label}": it has no manifest`, {
      hint: `loopbox import ${file.path}`,
    });
  }
  const { slot, ignored, manifest: last } = file.found;
  const isOfSize = manifest.kind === 'delta' ? manifest.sizeBytes >= file.sizeBytes : manifest.sizeBytes === file.sizeBytes;
  if (manifest.kind !== last.kind || !isOfSize)
    throw new Error(`writeManifest: "${file.label}" is no ${manifest.kind} of ${manifest.sizeBytes} bytes`);
  const next = { ...slot, index: slot.index === 0 ? (1 as const) : (0 as const), generation: slot.generation + 1n };
  const position = file.manifestOffset + next.index * slotLength;
  await writeAt(file.fd, position, encodeSlot(manifest, next.generation));
  try {
    await syncData(file.fd);
  } catch (error) {
    // Whether it is on the disk nobody knows, but every reader would see it.
    await writeAt(file.fd, position, encodeSlot(last, next.generation)).catch(() => {
      // Then nothing is read there either.
    });
    throw error;
  }
  file.found = { manifest, ignored, slot: next };
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

/** Judges an open file as `openImage` does. */
export async function judgeImage(file: RegularFile, { rescue = false } = {}): Promise<ImageFile> {
  const { fd, label, fileSizeBytes } = file;
  const head = await readAt(fd, 0, superblockOffset + superblockLength);
  const superblock = parseSuperblock(head.subarray(superblockOffset));
  if (!superblock) throw await notExt4(fd, label);
  const place = { fd, fileSizeBytes, fileSystemSizeBytes: superblock.sizeBytes, label };
  if (!superblock.checksumValid) {
    // A cut may have torn block 0 of an image that is being folded into: the source has it still.
    const folding = await findManifest(place).catch(forgiveCorrupt);
    if (folding?.manifest.fold) return new OpenImage(file, folding.manifest.sizeBytes, superblock, folding);
  }
  judgeSuperblock(superblock, fileSizeBytes, label);

  const search = findManifest(place);
  const found = await (rescue ? search.catch(forgiveCorrupt) : search);
  const problem = manifestProblem(found, superblock, head);
  if (problem && !rescue) throw corrupt(label, problem, `loopbox import --rescue ${file.path}`);
  const kept = problem ? undefined : found;
  const ownSize = rescue ? roundUp(superblock.sizeBytes, MiB) : superblock.sizeBytes;
  return new OpenImage(file, kept?.manifest.sizeBytes ?? ownSize, superblock, kept);
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
  const head = await readAt(fd, 0, identifyLength);
  if (decodeManifest(head, label)?.manifest.kind === 'delta')
    return new LoopboxError('ERR_LOOPBOX_NOT_SUPPORTED', `Cannot open "${label}": it is a delta, which needs other files, not an image`);
  const content = identifyContent(head);
  if (!content) return corrupt(label, 'it is not an ext4 image');
  return new LoopboxError('ERR_LOOPBOX_NOT_SUPPORTED', `Cannot open "${label}": it is ${content.name}, not an ext4 image`);
}

function forgiveCorrupt(error: unknown): undefined {
  if (!(error instanceof LoopboxError && error.code === 'ERR_LOOPBOX_CORRUPT')) throw error;
}
