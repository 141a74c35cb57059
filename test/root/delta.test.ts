import { statSync } from 'node:fs';
import { open, readFile, truncate } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { crc32cOfPages } from '../../src/image/crc32c';
import { createDelta, mapChecksum, openDelta, ownsMoreThanBlock0 } from '../../src/image/delta-file';
import { openImage, writeManifest } from '../../src/image/image-file';
import { openLayer } from '../../src/image/layer-file';
import type { Manifest } from '../../src/image/manifest';
import { encodeSlots } from '../../src/image/manifest-slots';
import { forgetEvidence } from '../../src/image/mark';
import { seal, verifySeal } from '../../src/image/seal';
import { native } from '../../src/native';
import { GiB, KiB, MiB } from '../../src/units';
import { newUuid } from '../../src/uuid';
import { shell, temporaryDirectory, xfsDirectory } from '../fixtures';
import { block, emptyDisk, Layers } from './layers';

const TiB = 1024 * GiB;

const manifest = () => ({
  state: newUuid(),
  parent: { state: newUuid(), hint: 'base.img' },
  created: '2025-01-02T03:04:05Z',
  config: { environment: {}, limits: {}, labels: {} },
});

async function newDelta(sizeBytes: number, block0?: Buffer, directory?: string): Promise<string> {
  const path = join(directory ?? (await temporaryDirectory()), 'web.delta');
  await using delta = await createDelta(path.replace('/web.delta', ''), { sizeBytes, manifest: manifest(), block0 });
  await delta.file.publish(path);
  return path;
}

function allocatedBytes(path: string): number {
  return statSync(path).blocks * 512;
}

async function ranges(path: string): Promise<number[]> {
  await using file = await open(path);
  return Array.from(await native().dataRanges(file.fd, 0, (await file.stat()).size));
}

async function change(path: string, body: (manifest: Manifest) => object): Promise<string> {
  await using delta = await openDelta(path);
  await using file = await open(path, 'r+');
  const changed = { ...delta.manifest, ...body(delta.manifest) };
  // Past the checks of what is written: as a stranger's file has it.
  const json = JSON.stringify(changed);
  const { rawSlots } = await import('../unit/image/raw-slots');
  await file.write(rawSlots(json), 0, 64 * KiB, 0);
  return path;
}

describe('a new delta', () => {
  it.each([
    [10 * GiB, (5 * MiB) / 2, 4 * MiB],
    [MiB, 4 * KiB, 2 * MiB],
    [128 * MiB, 32 * KiB, 2 * MiB],
  ])('of %d bytes has room for a disk of 8 times the size, its map written out, and else nothing', async (sizeBytes, room, dataOffset) => {
    const path = await newDelta(sizeBytes);
    await using delta = await openDelta(path);
    expect(delta).toMatchObject({ kind: 'delta', sizeBytes, mapOffset: MiB, mapBytes: room, dataOffset });
    expect(statSync(path).size).toBe(dataOffset + sizeBytes);
    expect(await ranges(path)).toEqual([0, 64 * KiB, MiB, MiB + Math.min(room, MiB)]);
    expect(allocatedBytes(path)).toBeGreaterThanOrEqual(64 * KiB + room);
    expect(await ownsMoreThanBlock0(delta)).toBe(false);
  });

  it('of 1 TiB has 1 MiB of its map written out, space for 32 MiB of it, and the rest is a hole', async () => {
    const path = await newDelta(TiB);
    await using delta = await openDelta(path);
    expect(delta).toMatchObject({ mapBytes: 256 * MiB, dataOffset: 257 * MiB });
    expect(await ranges(path)).toEqual([0, 64 * KiB, MiB, 2 * MiB]);
    expect(allocatedBytes(path)).toBeGreaterThan(32 * MiB);
    expect(allocatedBytes(path)).toBeLessThan(33 * MiB);
  });

  it('of 1 TiB has the checksum of its whole map, wherever that was written to', async () => {
    const path = await newDelta(TiB, Buffer.alloc(block));
    await using delta = await openDelta(path);
    await using file = await open(path, 'r+');
    for (const offset of [1.5 * MiB, 4 * MiB - 1, 7 * MiB, 31 * MiB + 5, 32 * MiB - 1]) {
      await file.write(Buffer.from([1]), 0, 1, delta.mapOffset + offset);
      const { buffer } = await file.read(Buffer.alloc(32 * MiB), 0, 32 * MiB, delta.mapOffset);
      expect(await mapChecksum(delta)).toBe(crc32cOfPages(buffer));
      await file.sync();
      expect(await mapChecksum(delta)).toBe(crc32cOfPages(buffer));
    }
  });

  it('owns the block 0 that it is given, and nothing else', async () => {
    const path = await newDelta(8 * MiB, Buffer.alloc(block, 'x'));
    await using delta = await openDelta(path);
    expect(await ownsMoreThanBlock0(delta)).toBe(false);
    const bytes = await readFile(path);
    expect(bytes[MiB]).toBe(1);
    expect(bytes.subarray(MiB + 1, 2 * MiB).every((byte) => byte === 0)).toBe(true);
    expect(bytes.subarray(delta.dataOffset, delta.dataOffset + block).toString()).toBe('x'.repeat(block));
    await using file = await open(path, 'r+');
    await file.write(Buffer.from([1]), 0, 1, MiB + 255);
    expect(await ownsMoreThanBlock0(delta)).toBe(true);
    await file.write(Buffer.from([3, 0]), 0, 2, MiB);
    await file.write(Buffer.from([0]), 0, 1, MiB + 255);
    expect(await ownsMoreThanBlock0(delta)).toBe(true);
  });

  it('of 16 TiB is made where the host holds such files, and else refused, by the reason', async () => {
    await expect(newDelta(16 * TiB)).rejects.toMatchObject({
      code: 'ERR_LOOPBOX_NOT_SUPPORTED',
      message: "Cannot make a delta of 16 TiB: the host's file system holds no file of more than 17592186040320 bytes",
    });
    const path = await newDelta(16 * TiB, undefined, await xfsDirectory());
    await using delta = await openDelta(path);
    expect(delta.sizeBytes).toBe(16 * TiB);
    expect(allocatedBytes(path)).toBeLessThan(40 * MiB);
    expect(await shell('xfs_io', '-r', '-c', 'extsize', path)).toMatch(/^\[1048576\]/);
  });
});

describe('openLayer', () => {
  it('tells a delta from an image by what is in it, whatever it is called', async () => {
    const layers = await Layers.make();
    await layers.image('a.delta', emptyDisk());
    await layers.delta('b.img', newUuid(), new Map());
    await using image = await openLayer(layers.path('a.delta'));
    await using delta = await openLayer(layers.path('b.img'));
    expect([image.kind, delta.kind]).toEqual(['image', 'delta']);
    await expect(openImage(layers.path('b.img'), { label: 'L' })).rejects.toMatchObject({
      code: 'ERR_LOOPBOX_NOT_SUPPORTED',
      message: 'Cannot open "L": it is a delta, which needs other files, not an image',
    });
    await expect(openDelta(layers.path('a.delta'), { label: 'L' })).rejects.toMatchObject({ code: 'ERR_LOOPBOX_CORRUPT' });
  });

  it('does not take what a guest wrote for the manifest of a delta', async () => {
    const layers = await Layers.make();
    await layers.image('web.img', emptyDisk());
    const forged = encodeSlots({ ...manifest(), kind: 'delta', sizeBytes: MiB, mapOffset: MiB, mapBytes: 4096, dataOffset: 2 * MiB });
    await using file = await open(layers.path('web.img'), 'r+');
    await file.write(forged, 32 * KiB, 32 * KiB, 32 * KiB);
    await using layer = await openLayer(layers.path('web.img'));
    expect(layer).toMatchObject({ kind: 'image', manifest: { name: 'web' } });
  });

  it('takes a delta for one, whatever its manifest says where an image has its magic', async () => {
    const layers = await Layers.make();
    for (let length = 600; length < 1100; length += 1) {
      const slots = encodeSlots({
        ...manifest(),
        kind: 'delta',
        sizeBytes: MiB,
        mapOffset: MiB,
        mapBytes: 4096,
        dataOffset: 2 * MiB,
        snapshot: {
          name: 'x',
          created: '2025-01-02T03:04:05Z',
          consistency: 'crash',
          description: `${'-'.repeat(length)}S\uf000S\uffffS\ufb01`,
        },
      });
      expect(slots.subarray(1080, 1082).toString('latin1')).not.toBe('\x53\xef');
    }
    const description = 'S\uf8ff'.repeat(500);
    const snapshot = { name: 'x', created: '2025-01-02T03:04:05Z', consistency: 'crash' as const, description };
    await layers.delta('web.delta', newUuid(), new Map(), { manifest: { snapshot } });
    await using layer = await openLayer(layers.path('web.delta'));
    expect(layer.manifest?.snapshot?.description).toBe(description);
  });

  it('follows a symbolic link only where it may', async () => {
    const layers = await Layers.make();
    await layers.image('web.img', emptyDisk());
    await shell('ln', '-s', 'web.img', layers.path('link.img'));
    await (await openLayer(layers.path('link.img'))).close();
    await expect(openLayer(layers.path('link.img'), { noFollow: true, label: 'L' })).rejects.toMatchObject({
      code: 'ERR_LOOPBOX_NOT_SUPPORTED',
      message: 'Cannot open "L": it is not a regular file',
    });
  });
});

describe('a delta is refused', () => {
  it.each<[string, (manifest: Manifest) => object, RegExp]>([
    [
      'whose data lies behind the end of the file',
      ({ dataOffset = 0 }) => ({ dataOffset: dataOffset + MiB }),
      /it is cut short: the file has/,
    ],
    ['whose data can not be addressed', () => ({ dataOffset: 2 ** 53 - MiB }), /"dataOffset" must be such that/],
    ['whose size is near 2^63', () => ({ sizeBytes: 2 ** 63 - 2 ** 20 }), /"sizeBytes" must be a multiple of 1 MiB/],
    ['whose map lies in its manifest', () => ({ mapOffset: 4096 }), /"mapOffset" must be a multiple of 4 KiB behind the manifest/],
    ['whose map begins within a page', () => ({ mapOffset: MiB + 512 }), /"mapOffset" must be/],
    [
      'whose map is too small',
      () => ({ sizeBytes: 256 * MiB, mapBytes: 4096 }),
      /"mapBytes" must be a multiple of 4 KiB that holds the map/,
    ],
    [
      'whose map reaches into its data',
      ({ dataOffset = 0 }) => ({ mapBytes: dataOffset }),
      /"dataOffset" must be a multiple of 1 MiB behind/,
    ],
    ['whose data begins within a MiB', ({ dataOffset = 0 }) => ({ dataOffset: dataOffset + 4096 }), /"dataOffset" must be/],
    ['without a map', () => ({ mapOffset: undefined }), /"mapOffset" must be there/],
    ['that has no state', () => ({ state: '00000000-0000-0000-0000-000000000000' }), /"state" must be the nil uuid where there is "fold"/],
    [
      'that has a state, and is being merged',
      () => ({ fold: { to: newUuid(), was: newUuid(), cursor: 0 } }),
      /"state" must be the nil uuid where there is "fold"/,
    ],
    ['that says it is an image', () => ({ kind: 'image' }), /must be absent in an image/],
  ])('%s', async (_, changes, message) => {
    const path = await change(await newDelta(8 * MiB), changes);
    await expect(openLayer(path, { label: 'L' })).rejects.toMatchObject({ code: 'ERR_LOOPBOX_CORRUPT', message });
  });
});

describe("a delta's manifest and seal", () => {
  it('are written in turns: a torn one leaves the last', async () => {
    const path = await newDelta(MiB);
    for (const name of ['one', 'two', 'three']) {
      await using delta = await openDelta(path, { write: true });
      await writeManifest(delta, { ...delta.manifest, name });
    }
    await using file = await open(path, 'r+');
    await file.write(Buffer.alloc(100, 0xaa), 0, 100, 10);
    await using delta = await openDelta(path);
    expect(delta.manifest.name).toBe('two');
  });

  it('hold until map or length change; data is not looked at', async () => {
    const layers = await Layers.make();
    await layers.delta('web@a.delta', newUuid(), new Map([[7, 7]]), { sizeBytes: 128 * MiB });
    await using delta = await openDelta(layers.path('web@a.delta'), { write: true });
    await seal(delta);
    expect(delta.manifest.sealed).toEqual({ lengthBytes: 130 * MiB, mapCrc32c: expect.any(Number) });
    await layers.write('web@a.delta', new Map([[7, 8]]));
    await verifySeal(delta);
    // Room that V does not reach.
    await using file = await open(delta.path, 'r+');
    await file.write(Buffer.from([1]), 0, 1, MiB + 4 * KiB);
    await verifySeal(delta);
    await file.write(Buffer.from([0x80]), 0, 1, MiB + 4 * KiB - 1);
    await expect(verifySeal(delta)).rejects.toMatchObject({
      code: 'ERR_LOOPBOX_CORRUPT',
      message: /its map was changed after it was sealed$/,
    });
    // Somebody else has it open, and might be copying it.
    expect(await forgetEvidence(delta)).toBe(false);
    await file.close();
    expect(await forgetEvidence(delta)).toBe(true);
    await verifySeal(delta);
    expect(delta.manifest.sealed).toEqual({ lengthBytes: 130 * MiB });
    await truncate(delta.path, 129 * MiB);
    await expect(verifySeal(delta)).rejects.toMatchObject({ code: 'ERR_LOOPBOX_CORRUPT', message: /its length was changed/ });
  });
});
