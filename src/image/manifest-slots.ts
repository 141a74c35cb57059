import { LoopboxError } from '../errors';
import { KiB } from '../units';
import { crc32c } from './crc32c';
import { formatManifest, type Manifest, manifestVersion } from './manifest';

/** The manifest's place: two slots, written in turn, so that a torn write leaves the older one. */
export const slotsLength = 64 * KiB;
export const slotLength = 32 * KiB;

/**
 * A slot is JSON from 0, zeroes, and a footer in its last 32 bytes, little endian:
 * magic (8), major, minor (u16 each), JSON length (u32), generation (u64), reserved 0 (u32), crc32c of the JSON and of the 28 bytes before (u32).
 */
const footerLength = 32;
const footerMagic = 'LOOPBOXM';
const capacity = slotLength - footerLength;

/** The highest generation that a manifest is read with; no file gets there by being written. */
export const maxGeneration = 2n ** 63n - 1n;

/** The newest valid slot, its JSON not yet looked at. */
export interface Slot {
  index: 0 | 1;
  generation: bigint;
  major: number;
  minor: number;
  json: string;
}

/** A slot's 32 KiB. What does not fit is refused with USAGE, never cut. */
export function encodeSlot(manifest: Manifest, generation: bigint): Buffer {
  const json = Buffer.from(jsonOf(manifest));
  if (json.length > capacity) {
    throw new LoopboxError('ERR_LOOPBOX_USAGE', `Cannot store the config: it takes ${json.length} bytes, a manifest holds ${capacity}`, {
      hint: 'use fewer or shorter environment variables and labels',
    });
  }
  const slot = Buffer.alloc(slotLength);
  json.copy(slot);
  const footer = slot.subarray(capacity);
  footer.write(footerMagic, 0, 'latin1');
  footer.writeUInt16LE(manifestVersion.major, 8);
  footer.writeUInt16LE(manifest.formatMinor ?? manifestVersion.minor, 10);
  footer.writeUInt32LE(json.length, 12);
  footer.writeBigUInt64LE(generation, 16);
  footer.writeUInt32LE(crc32c(footer.subarray(0, 28), crc32c(json)), 28);
  return slot;
}

/** A delta's first slot lies where an image has ext4's magic (53 EF): its JSON is written so that no byte of it is EF. */
function jsonOf(manifest: Manifest): string {
  const json = formatManifest(manifest);
  if (manifest.kind === 'image') return json;
  return json.replace(/[\uf000-\uffff]/g, (character) => `\\u${character.charCodeAt(0).toString(16)}`);
}

/** Both slots of a manifest that is placed anew. */
export function encodeSlots(manifest: Manifest): Buffer {
  return Buffer.concat([encodeSlot(manifest, 1n), encodeSlot(manifest, 2n)]);
}

/** The newest valid of the two slots in these 64 KiB; undefined where neither is. Any bytes may be given. */
export function decodeSlots(bytes: Buffer): Slot | undefined {
  const first = decodeSlot(bytes.subarray(0, slotLength), 0);
  const second = decodeSlot(bytes.subarray(slotLength, slotsLength), 1);
  return first && second ? (second.generation > first.generation ? second : first) : (first ?? second);
}

function decodeSlot(slot: Buffer, index: 0 | 1): Slot | undefined {
  const footer = slot.subarray(capacity);
  if (footer.length !== footerLength || footer.toString('latin1', 0, 8) !== footerMagic) return undefined;
  const length = footer.readUInt32LE(12);
  if (length > capacity) return undefined;
  const json = slot.subarray(0, length);
  if (footer.readUInt32LE(28) !== crc32c(footer.subarray(0, 28), crc32c(json))) return undefined;
  return {
    index,
    generation: footer.readBigUInt64LE(16),
    major: footer.readUInt16LE(8),
    minor: footer.readUInt16LE(10),
    json: json.toString('utf8'),
  };
}
