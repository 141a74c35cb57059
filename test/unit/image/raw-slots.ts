import { crc32c } from '../../../src/image/crc32c';
import { slotLength } from '../../../src/image/manifest-slots';

export interface RawFooter {
  major?: number;
  minor?: number;
  /** What the footer says, where that is not the JSON's length. */
  length?: number;
  generation?: bigint;
}

/** Two slots with any content, and a checksum that is right where that can be. */
export function rawSlots(json: string | Uint8Array, { major = 1, minor = 0, length, generation = 99n }: RawFooter = {}): Buffer {
  const bytes = Buffer.from(json as string);
  if (bytes.length > slotLength - 32) throw new RangeError(`${bytes.length} bytes don't fit into a slot`);
  const slot = Buffer.alloc(slotLength);
  bytes.copy(slot);
  const footer = slot.subarray(-32);
  footer.write('LOOPBOXM', 'latin1');
  footer.writeUInt16LE(major, 8);
  footer.writeUInt16LE(minor, 10);
  footer.writeUInt32LE(length ?? bytes.length, 12);
  footer.writeBigUInt64LE(generation, 16);
  footer.writeUInt32LE(crc32c(footer.subarray(0, 28), crc32c(bytes)), 28);
  return Buffer.concat([slot, slot]);
}
