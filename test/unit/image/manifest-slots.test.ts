import { describe, expect, it } from 'vitest';
import { crc32c } from '../../../src/image/crc32c';
import { formatManifest } from '../../../src/image/manifest';
import { decodeSlots, encodeSlot, encodeSlots, slotLength, slotsLength } from '../../../src/image/manifest-slots';
import { sampleManifest, seededBytes } from './golden';

const older = encodeSlot(sampleManifest({ name: 'older' }), 6n);
const newer = encodeSlot(sampleManifest({ name: 'newer' }), 7n);

function nameIn(slots: Buffer): string | undefined {
  const slot = decodeSlots(slots);
  return slot && (JSON.parse(slot.json) as { name: string }).name;
}

describe('manifest slots', () => {
  it('have the documented layout', () => {
    const manifest = sampleManifest();
    const json = Buffer.from(formatManifest(manifest));
    const slot = encodeSlot(manifest, 0x0102030405060708n);
    expect(slot.length).toBe(32768);
    expect(slot.subarray(0, json.length).equals(json)).toBe(true);
    expect(slot.subarray(json.length, 32736).every((byte) => byte === 0)).toBe(true);
    const length = json.length.toString(16).padStart(4, '0');
    const footer = `4c4f4f50424f584d 0100 0000 ${length.slice(2)}${length.slice(0, 2)}0000 0807060504030201 00000000`.replaceAll(' ', '');
    expect(slot.toString('hex', 32736, 32764)).toBe(footer);
    expect(slot.readUInt32LE(32764)).toBe(crc32c(Buffer.concat([json, Buffer.from(footer, 'hex')])));
  });

  it('give the newer of two, whichever is first', () => {
    expect(nameIn(Buffer.concat([older, newer]))).toBe('newer');
    expect(nameIn(Buffer.concat([newer, older]))).toBe('newer');
    expect(decodeSlots(Buffer.concat([newer, older]))).toMatchObject({ index: 0, generation: 7n, major: 1, minor: 0 });
    expect(decodeSlots(Buffer.concat([older, newer]))).toMatchObject({ index: 1, generation: 7n });
  });

  it('compare generations as 64 bits', () => {
    const far = encodeSlot(sampleManifest({ name: 'far' }), 2n ** 63n + 1n);
    expect(nameIn(Buffer.concat([far, encodeSlot(sampleManifest(), 2n ** 63n)]))).toBe('far');
  });

  it('give the older one wherever the newer is torn', () => {
    const json = newer.indexOf(0);
    for (const cut of [1, 7, json - 1, 512, 4096, slotLength - 32, slotLength - 28, slotLength - 4, slotLength - 1]) {
      const before = Buffer.concat([newer.subarray(0, cut), seededBytes(cut, slotLength - cut)]);
      const after = Buffer.concat([Buffer.alloc(cut), newer.subarray(cut)]);
      expect(nameIn(Buffer.concat([before, older]))).toBe('older');
      if (cut < json) expect(nameIn(Buffer.concat([after, older]))).toBe('older');
    }
  });

  it('see every bit that flips in JSON or footer', () => {
    const length = newer.indexOf(0);
    for (let bit = 0; bit < (length + 32) * 8; bit += 3) {
      const slot = Buffer.from(newer);
      const at = bit >> 3 < length ? bit >> 3 : slotLength - 32 + (bit >> 3) - length;
      slot[at] = (slot[at] as number) ^ (1 << (bit & 7));
      expect(nameIn(Buffer.concat([slot, older]))).toBe('older');
    }
  });

  it('are none in zeroes, in noise, in too few bytes, or with a length beyond the slot', () => {
    expect(decodeSlots(Buffer.alloc(slotsLength))).toBeUndefined();
    for (let seed = 0; seed < 200; seed++) {
      const bytes = seededBytes(seed, slotsLength);
      bytes.write('LOOPBOXM', slotLength - 32, 'latin1');
      bytes.write('LOOPBOXM', slotsLength - 32, 'latin1');
      expect(decodeSlots(bytes)).toBeUndefined();
    }
    for (const length of [0, 1, 100, slotLength - 1, slotLength, slotsLength - 1])
      expect(decodeSlots(encodeSlots(sampleManifest()).subarray(0, Math.min(length, slotLength - 1)))).toBeUndefined();
    for (const length of [slotLength - 31, 2 ** 30, 2 ** 32 - 1]) {
      const slot = Buffer.from(newer);
      slot.writeUInt32LE(length, slotLength - 20);
      expect(nameIn(Buffer.concat([slot, older]))).toBe('older');
    }
  });

  it('refuse what does not fit, and take what just fits', () => {
    const room = slotLength - 32 - formatManifest(sampleManifest({ config: { environment: { A: '' }, limits: {}, labels: {} } })).length;
    const withValue = (length: number) => sampleManifest({ config: { environment: { A: 'x'.repeat(length) }, limits: {}, labels: {} } });
    expect(decodeSlots(encodeSlots(withValue(room)))?.json.length).toBe(slotLength - 32);
    expect(() => encodeSlot(withValue(room + 1), 1n)).toThrow(/Cannot store the config: it takes 32737 bytes, a manifest holds 32736/);
  });

  it('are written under the newer minor version that the manifest came from', () => {
    expect(decodeSlots(encodeSlots({ ...sampleManifest(), formatMinor: 9 }))).toMatchObject({ major: 1, minor: 9 });
  });
});
