import { mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { open, stat, truncate } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { openImage, placeManifest, rescueImage, writeManifest } from '../../../src/image/image-file';
import { formatManifest, type Manifest } from '../../../src/image/manifest';
import { sealNewImage, unseal, verifySeal } from '../../../src/image/seal';
import { KiB, MiB } from '../../../src/units';
import { type SuperblockFields, sampleManifest, seededBytes, superblockBytes } from './golden';
import { rawSlots } from './raw-slots';

const directory = mkdtempSync(join(tmpdir(), 'loopbox-image-'));
afterAll(() => rmSync(directory, { recursive: true }));
let count = 0;

/** A file with a golden superblock and nothing else, and, with `manifest`, made an image of ours. */
async function imageFile(fields: SuperblockFields = {}, manifest?: Manifest, fileSizeBytes = fields.sizeBytes ?? 2 * MiB): Promise<string> {
  const path = join(directory, `${++count}.img`);
  await using file = await open(path, 'wx+');
  await file.truncate(fileSizeBytes);
  await file.write(superblockBytes(fields), 0, 1024, 1024);
  if (manifest) await placeManifest(file.fd, manifest.sizeBytes, manifest);
  return path;
}

async function overwrite(path: string, position: number, bytes: Buffer): Promise<void> {
  await using file = await open(path, 'r+');
  await file.write(bytes, 0, bytes.length, position);
}

async function ofGeneration(generation: bigint): Promise<string> {
  const path = await imageFile({}, sampleManifest());
  await overwrite(path, 2 * MiB, rawSlots(formatManifest(sampleManifest()), { generation }));
  return path;
}

async function grownByHand(): Promise<string> {
  const path = await imageFile({}, sampleManifest());
  await truncate(path, 6 * MiB);
  await overwrite(path, 1024, superblockBytes({ sizeBytes: 6 * MiB }));
  return path;
}

describe('openImage', () => {
  it('takes a file without mark and manifest as a foreign image', async () => {
    await using image = await openImage(await imageFile({ logBlockSize: 0 }), { label: 'x' });
    expect(image).toMatchObject({ label: 'x', sizeBytes: 2 * MiB, fileSizeBytes: 2 * MiB, links: 1, manifest: undefined, ignored: [] });
    expect(image.superblock.blockSize).toBe(1024);
  });

  it('takes the file system’s size as the disk of a foreign image in a larger file', async () => {
    await using image = await openImage(await imageFile({ sizeBytes: 2 * MiB }, undefined, 2 * MiB + 60 * KiB));
    expect(image.sizeBytes).toBe(2 * MiB);
  });

  it('reads the manifest at the file’s end', async () => {
    const path = await imageFile({}, sampleManifest());
    const { size } = await stat(path);
    await using image = await openImage(path);
    expect(image).toMatchObject({ sizeBytes: 2 * MiB, fileSizeBytes: 2 * MiB + 64 * KiB, manifest: sampleManifest() });
    expect(size).toBe(2 * MiB + 64 * KiB);
  });

  it('leaves a boot block alone that is in use, and finds the manifest all the same', async () => {
    const path = await imageFile();
    await overwrite(path, 512, Buffer.from('boot code'));
    await using file = await open(path, 'r+');
    await placeManifest(file.fd, 2 * MiB, sampleManifest());
    expect((await file.read(Buffer.alloc(16), 0, 16, 0)).buffer.every((byte) => byte === 0)).toBe(true);
    await using image = await openImage(path);
    expect(image.manifest?.name).toBe('web');
  });

  it('takes a manifest behind a smaller file system: a grow that was cut short', async () => {
    const path = await imageFile({ sizeBytes: 2 * MiB }, sampleManifest({ sizeBytes: 5 * MiB }));
    await using image = await openImage(path);
    expect(image.sizeBytes).toBe(5 * MiB);
  });

  it('reads the manifest at ext4’s own size where the file was lengthened before the slots moved', async () => {
    const path = await imageFile({}, sampleManifest());
    await truncate(path, 9 * MiB + 64 * KiB);
    await using image = await openImage(path);
    expect(image).toMatchObject({ sizeBytes: 2 * MiB, manifest: { name: 'web' } });
  });

  it('is told by the newer slot, and by the older one where that is torn', async () => {
    const path = await imageFile({}, sampleManifest());
    for (const name of ['one', 'two', 'three']) {
      await using image = await openImage(path, { write: true });
      await writeManifest(image, { ...(image.manifest as Manifest), name });
      expect(image.manifest?.name).toBe(name);
      await using again = await openImage(path);
      expect(again.manifest?.name).toBe(name);
    }
    // Placed as generations 1 and 2: "three" is generation 5, in the first slot.
    await overwrite(path, 2 * MiB + 10, seededBytes(1, 100));
    await using image = await openImage(path);
    expect(image.manifest?.name).toBe('two');
  });

  it('keeps several changes of one open image apart', async () => {
    const path = await imageFile({}, sampleManifest());
    await using image = await openImage(path, { write: true });
    for (let pids = 1; pids <= 5; pids++) {
      await writeManifest(image, { ...sampleManifest(), config: { environment: {}, limits: { pids }, labels: {} } });
      await using again = await openImage(path);
      expect(again.manifest?.config.limits).toEqual({ pids });
    }
  });

  it.each<[string, () => Promise<string>, object]>([
    [
      'nothing there',
      async () => join(directory, 'none'),
      { code: 'ERR_LOOPBOX_NOT_FOUND', message: /^Cannot open "L": no such file or directory/ },
    ],
    ['a directory', async () => directory, { code: 'ERR_LOOPBOX_NOT_SUPPORTED', message: 'Cannot open "L": it is not a regular file' }],
    ['noise', () => noise(seededBytes(3, MiB)), { code: 'ERR_LOOPBOX_CORRUPT', message: 'Cannot open "L": it is not an ext4 image' }],
    ['nothing in it', () => noise(Buffer.alloc(0)), { code: 'ERR_LOOPBOX_CORRUPT' }],
    [
      'XFS',
      () => noise(Buffer.concat([Buffer.from('XFSB'), Buffer.alloc(70_000)])),
      { code: 'ERR_LOOPBOX_NOT_SUPPORTED', message: 'Cannot open "L": it is an XFS file system, not an ext4 image' },
    ],
    [
      'btrfs',
      () => noise(Buffer.concat([Buffer.alloc(0x10040), Buffer.from('_BHRfS_M')])),
      { code: 'ERR_LOOPBOX_NOT_SUPPORTED', message: /btrfs/ },
    ],
    [
      'a tar',
      () => noise(Buffer.concat([Buffer.alloc(257), Buffer.from('ustar\0'), Buffer.alloc(2000)])),
      { code: 'ERR_LOOPBOX_NOT_SUPPORTED', message: /tar archive/ },
    ],
    ['a journal device', () => imageFile({ incompatible: 8 }), { code: 'ERR_LOOPBOX_NOT_SUPPORTED', message: /external journal/ }],
    [
      'a file that was cut short',
      () => imageFile({ sizeBytes: 4 * MiB }, undefined, 3 * MiB),
      { code: 'ERR_LOOPBOX_CORRUPT', message: 'Cannot open "L": it is cut short: the file has 3 MiB, its file system 4 MiB' },
    ],
    [
      'a wrong checksum',
      () => damaged(1024 + 0x78),
      { code: 'ERR_LOOPBOX_CORRUPT', message: 'Cannot open "L": its superblock\'s checksum is wrong' },
    ],
    [
      'geometry without sense',
      () => imageFile({ sizeBytes: 0 }, undefined, MiB),
      { code: 'ERR_LOOPBOX_CORRUPT', message: /make no sense/ },
    ],
    [
      'both slots lost',
      () => damaged(2 * MiB, 32 * KiB + 20),
      { code: 'ERR_LOOPBOX_CORRUPT', message: 'Cannot open "L": its manifest is lost', hint: /^loopbox import --rescue / },
    ],
    ['the end cut off', cutEnd, { code: 'ERR_LOOPBOX_CORRUPT', message: /its manifest is lost/ }],
    [
      'a file system that was grown over the manifest',
      grownByHand,
      { code: 'ERR_LOOPBOX_CORRUPT', message: /its manifest is lost/, hint: /--rescue/ },
    ],
    [
      'a file system that is larger than the manifest says',
      outgrown,
      { code: 'ERR_LOOPBOX_CORRUPT', message: /its file system \(2.1 MiB\) has outgrown it \(2 MiB\)/, hint: /--rescue/ },
    ],
    [
      'a generation that leaves none for the next',
      () => ofGeneration(2n ** 64n - 1n),
      { code: 'ERR_LOOPBOX_CORRUPT', message: /its manifest's generation, 18446744073709551615, leaves none/ },
    ],
    [
      'a newer major version',
      newerMajor,
      { code: 'ERR_LOOPBOX_NOT_SUPPORTED', message: 'Cannot open "L": its manifest has format version 2.3, this version reads 1.x' },
    ],
  ])('refuses %s', async (_, make, expected) => {
    const error = await openImage(await make(), { label: 'L' }).catch((error: unknown) => error);
    for (const [key, value] of Object.entries(expected)) {
      expect((error as Record<string, unknown>)[key]).toEqual(value instanceof RegExp ? expect.stringMatching(value) : value);
    }
  });

  it('follows a symbolic link that the user named', async () => {
    const link = join(directory, 'link.img');
    symlinkSync(await imageFile({}, sampleManifest()), link);
    await using image = await openImage(link);
    expect(image.path).toBe(link);
  });
});

describe('rescueImage', () => {
  it('takes the file system where the manifest is lost or too small, at its own size', async () => {
    for (const path of [await damaged(2 * MiB, 32 * KiB + 20), await grownByHand()]) {
      await using image = await rescueImage(path);
      expect(image.manifest).toBeUndefined();
      expect(image.sizeBytes).toBe(image.superblock.sizeBytes);
    }
    await using image = await rescueImage(await outgrown());
    expect(image).toMatchObject({ manifest: undefined, sizeBytes: 3 * MiB });
  });

  it('rounds an odd size up, for a manifest to be placed there', async () => {
    await using image = await rescueImage(await imageFile({ sizeBytes: 2 * MiB + 4 * KiB }));
    expect(image.sizeBytes).toBe(3 * MiB);
  });

  it('keeps a manifest that is well, and refuses what is no ext4', async () => {
    await using image = await rescueImage(await imageFile({}, sampleManifest()));
    expect(image.manifest?.name).toBe('web');
    await expect(rescueImage(await noise(seededBytes(4, MiB)))).rejects.toThrow(/not an ext4 image/);
  });
});

describe('writeManifest and placeManifest', () => {
  it('go on from the highest generation that is read', async () => {
    await using image = await openImage(await ofGeneration(2n ** 63n - 1n), { write: true });
    await writeManifest(image, sampleManifest({ name: 'next' }));
    expect(image.manifest?.name).toBe('next');
  });

  it('refuse a foreign image, and a size that is not a multiple of 1 MiB', async () => {
    const path = await imageFile();
    await using image = await openImage(path, { write: true });
    await expect(writeManifest(image, sampleManifest())).rejects.toMatchObject({
      code: 'ERR_LOOPBOX_NOT_SUPPORTED',
      hint: `loopbox import ${path}`,
    });
    await expect(placeManifest(image.fd, 2 * MiB + 4096, sampleManifest())).rejects.toMatchObject({ code: 'ERR_LOOPBOX_NOT_SUPPORTED' });
    expect((await stat(path)).size).toBe(2 * MiB);
  });
});

describe('a seal', () => {
  it('holds until the superblock or the length changes', async () => {
    const path = await imageFile();
    await using file = await open(path, 'r+');
    await sealNewImage(file.fd, 2 * MiB, sampleManifest());
    await using image = await openImage(path);
    expect(image.superblock.readOnly).toBe(true);
    await verifySeal(image);

    await file.truncate(3 * MiB);
    await expect(verifySeal(image)).rejects.toMatchObject({
      code: 'ERR_LOOPBOX_CORRUPT',
      message: /its length was changed after it was sealed/,
    });
    await file.truncate(2 * MiB + 64 * KiB);
    await verifySeal(image);
    // As other programs change it: with ext4's own checksum right.
    await overwrite(path, 1024, superblockBytes({ readOnlyCompatible: 0x146b, state: 3 }));
    await expect(verifySeal(image)).rejects.toMatchObject({ code: 'ERR_LOOPBOX_CORRUPT', message: /its file system was changed/ });
  });

  it('is opened by unseal, also where that was cut short before', async () => {
    const path = await imageFile();
    await using file = await open(path, 'r+');
    await sealNewImage(file.fd, 2 * MiB, sampleManifest());
    for (const round of ['sealed', 'already open']) {
      await using image = await openImage(path, { write: true });
      await unseal(image);
      await using again = await openImage(path);
      expect([round, again.manifest?.sealed, again.superblock.readOnly, again.superblock.checksumValid]).toEqual([
        round,
        undefined,
        false,
        true,
      ]);
      await verifySeal(again);
    }
  });
});

async function noise(bytes: Buffer): Promise<string> {
  const path = join(directory, `${++count}.noise`);
  writeFileSync(path, bytes);
  return path;
}

async function damaged(...positions: number[]): Promise<string> {
  const path = await imageFile({}, sampleManifest());
  const [first = 0] = positions;
  for (const [index, position] of positions.entries())
    await overwrite(path, index === 0 ? position : first + position, Buffer.from([0xaa, 0x55]));
  return path;
}

async function cutEnd(): Promise<string> {
  const path = await imageFile({}, sampleManifest());
  await truncate(path, 2 * MiB);
  return path;
}

async function outgrown(): Promise<string> {
  const path = await imageFile({}, sampleManifest());
  // What plain resize2fs does to a disk that is not a multiple of 128 MiB: it takes the manifest's 16 blocks.
  await overwrite(path, 1024, superblockBytes({ sizeBytes: 2 * MiB + 64 * KiB }));
  return path;
}

async function newerMajor(): Promise<string> {
  const { crc32c } = await import('../../../src/image/crc32c');
  const { encodeSlot } = await import('../../../src/image/manifest-slots');
  const path = await imageFile({}, sampleManifest());
  const slot = encodeSlot(sampleManifest(), 9n);
  const footer = slot.subarray(-32);
  footer.writeUInt16LE(2, 8);
  footer.writeUInt16LE(3, 10);
  footer.writeUInt32LE(crc32c(footer.subarray(0, 28), crc32c(slot.subarray(0, footer.readUInt32LE(12)))), 28);
  await overwrite(path, 2 * MiB, slot);
  return path;
}
