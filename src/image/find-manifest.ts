import { LoopboxError } from '../errors';
import { native } from '../native';
import { MiB } from '../units';
import { readAt } from './file-io';
import { type Manifest, manifestVersion, type ParsedManifest, parseManifest } from './manifest';
import { decodeSlots, maxGeneration, type Slot, slotsLength } from './manifest-slots';

export interface FoundManifest extends ParsedManifest {
  slot: Slot;
}

/** The part of an image's file that its manifest is looked for in. */
export interface ManifestSearch {
  fd: number;
  fileSizeBytes: number;
  /** ext4's own size: a manifest before its end would be disk content. */
  fileSystemSizeBytes: number;
  label: string;
}

/**
 * Looks where an image's manifest may lie: at the file's end, at ext4's own size (a grow that was cut short), then at each MiB boundary
 * backwards from the end (a file that was lengthened). Undefined where there is none; throws for one that is there and can't be read.
 */
export async function findManifest(search: ManifestSearch): Promise<FoundManifest | undefined> {
  const { fileSizeBytes, fileSystemSizeBytes } = search;
  const atEnd = fileSizeBytes - slotsLength;
  const found = (await manifestAt(search, atEnd)) ?? (await manifestAt(search, fileSystemSizeBytes));
  if (found) return found;
  for (const { start, end } of (await dataAfter(search)).reverse()) {
    // A manifest may begin in the MiB boundary's hole only if it has no first slot: from the boundary at or before the data on.
    const first = Math.max(Math.floor(start / MiB) * MiB, fileSystemSizeBytes);
    for (let position = Math.floor(Math.min(end - 1, atEnd) / MiB) * MiB; position >= first; position -= MiB) {
      const moved = await manifestAt(search, position);
      if (moved) return moved;
    }
  }
  return undefined;
}

/** The manifest at `position`; one that speaks of another position is a left-over, not this file's. */
async function manifestAt({ fd, fileSizeBytes, label }: ManifestSearch, position: number): Promise<FoundManifest | undefined> {
  if (position <= 0 || position % MiB !== 0 || position + slotsLength > fileSizeBytes) return undefined;
  const found = decodeManifest(await readAt(fd, position, slotsLength), label, 'image');
  if (found?.manifest.sizeBytes !== position) return undefined;
  requireGeneration(found, label);
  return found;
}

/**
 * The manifest in a pair of slots; undefined where neither is valid. NOT_SUPPORTED for another major version, CORRUPT for what breaks
 * the rules.
 */
export function decodeManifest(slots: Buffer, label: string, kind?: Manifest['kind']): FoundManifest | undefined {
  const slot = decodeSlots(slots);
  if (!slot) return undefined;
  if (slot.major !== manifestVersion.major) {
    throw new LoopboxError(
      'ERR_LOOPBOX_NOT_SUPPORTED',
      `Cannot open "${label}": its manifest has format version ${slot.major}.${slot.minor}, this version reads ${manifestVersion.major}.x`,
      { hint: 'use a newer loopbox' },
    );
  }
  return { ...parseManifest(slot.json, label, slot.minor, kind), slot };
}

/** Throws CORRUPT for a manifest that no next one could follow. */
export function requireGeneration({ slot }: FoundManifest, label: string): void {
  if (slot.generation <= maxGeneration) return;
  throw new LoopboxError(
    'ERR_LOOPBOX_CORRUPT',
    `Cannot open "${label}": its manifest's generation, ${slot.generation}, leaves none for the next`,
  );
}

/** Where the host holds data behind the file system: a file may be sparse and huge. */
async function dataAfter({ fd, fileSizeBytes, fileSystemSizeBytes }: ManifestSearch): Promise<{ start: number; end: number }[]> {
  const extents: { start: number; end: number }[] = [];
  let position = fileSystemSizeBytes;
  while (position + slotsLength <= fileSizeBytes) {
    const data = await native().nextData(fd, position);
    if (!data) break;
    extents.push(data);
    position = data.end;
  }
  return extents;
}
