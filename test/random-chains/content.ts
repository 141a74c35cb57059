import { KiB } from '../../src/units';

export const block = 4 * KiB;

/** What each block of a disk holds, in a model: the number of a write, or 0 for zeroes. */
export type Content = Uint32Array;

/** Fills blocks as the write of this number does: every 8 bytes tell block and write. */
export function fill(bytes: Buffer, first: number, value: number): void {
  for (let at = 0; at < bytes.length; at += block) {
    const one = bytes.subarray(at, at + block);
    if (value === 0) one.fill(0);
    else one.fill(patternOf(first + at / block, value));
  }
}

function patternOf(index: number, value: number): Buffer {
  const pattern = Buffer.alloc(8);
  pattern.writeUInt32LE(index, 0);
  pattern.writeUInt32LE(value, 4);
  return pattern;
}

const expected = Buffer.alloc(block);

/** Whether a block holds what the write of this number has left. */
export function holds(bytes: Buffer, index: number, value: number): boolean {
  fill(expected, index, value);
  return bytes.equals(expected);
}

/** Throws where blocks differ from the model; block 0 is ext4's superblock, which seals and starts change. */
export function expectContent(what: string, bytes: Buffer, first: number, content: Content): void {
  for (let at = 0; at < bytes.length; at += block) {
    const index = first + at / block;
    const one = bytes.subarray(at, at + block);
    const value = content[index] ?? -1;
    if (index === 0 || holds(one, index, value)) continue;
    const shown = `${one.readUInt32LE(4)} of block ${one.readUInt32LE(0)}, ${one.readUInt32LE(block - 4)} of block ${one.readUInt32LE(block - 8)}`;
    throw new Error(`"${what}" shows in block ${index} of ${content.length} not write ${value}, but ${shown}`);
  }
}
