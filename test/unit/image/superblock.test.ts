import { describe, expect, it } from 'vitest';
import { parseSuperblock } from '../../../src/image/superblock';
import { GiB, KiB, MiB } from '../../../src/units';
import { seededBytes, superblockBytes } from './golden';

describe('parseSuperblock', () => {
  it('reads what mke2fs writes', () => {
    expect(parseSuperblock(superblockBytes())).toEqual({
      blockSize: 4096,
      sizeBytes: 2 * MiB,
      freeBytes: 400 * KiB,
      overheadBytes: 80 * KiB,
      checksumsNeedUuid: false,
      isExt4: true,
      hasForeignJournal: false,
      needsRecovery: false,
      readOnly: false,
      hasErrors: false,
      needsCheck: false,
      checksumValid: true,
    });
  });

  it('reads sizes beyond 2^32 blocks', () => {
    expect(parseSuperblock(superblockBytes({ sizeBytes: 40 * 1024 * GiB }))?.sizeBytes).toBe(40 * 1024 * GiB);
  });

  it('reads 1 KiB blocks', () => {
    expect(parseSuperblock(superblockBytes({ logBlockSize: 0 }))).toMatchObject({
      blockSize: 1024,
      sizeBytes: 2 * MiB,
    });
  });

  it('reads features and state', () => {
    expect(parseSuperblock(superblockBytes({ incompatible: 0x2c6 }))).toMatchObject({ needsRecovery: true, checksumsNeedUuid: true });
    expect(parseSuperblock(superblockBytes({ incompatible: 0x8 }))).toMatchObject({ isExt4: false });
    expect(parseSuperblock(superblockBytes({ readOnlyCompatible: 0x146b }))).toMatchObject({ readOnly: true });
    expect(parseSuperblock(superblockBytes({ state: 2 }))).toMatchObject({ hasErrors: true, needsCheck: true });
  });

  it('sees a wrong checksum, but only where there is one', () => {
    const bytes = superblockBytes();
    bytes[0x78] = 1;
    expect(parseSuperblock(bytes)?.checksumValid).toBe(false);
    bytes.writeUInt32LE(0x6b, 0x64);
    expect(parseSuperblock(bytes)?.checksumValid).toBe(true);
  });

  it('says size 0 where the geometry makes no sense', () => {
    expect(parseSuperblock(superblockBytes({ logBlockSize: 2, sizeBytes: 0 }))?.sizeBytes).toBe(0);
    const bytes = superblockBytes();
    bytes.writeUInt32LE(77, 0x18);
    expect(parseSuperblock(bytes)?.sizeBytes).toBe(0);
  });

  it('knows nothing without the magic, and throws at no bytes', () => {
    expect(parseSuperblock(Buffer.alloc(1024))).toBeUndefined();
    expect(parseSuperblock(Buffer.alloc(100))).toBeUndefined();
    for (let seed = 0; seed < 500; seed++) {
      const bytes = seededBytes(seed, 1024);
      bytes.writeUInt16LE(0xef53, 0x38);
      const superblock = parseSuperblock(bytes);
      expect(Number.isSafeInteger(superblock?.sizeBytes)).toBe(true);
    }
  });
});
