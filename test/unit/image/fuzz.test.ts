import { mkdtempSync, rmSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { type ErrorCode, LoopboxError } from '../../../src/errors';
import { crc32c } from '../../../src/image/crc32c';
import { openDelta } from '../../../src/image/delta-file';
import { identifyContent } from '../../../src/image/identify-content';
import { openImage, placeManifest, rescueImage } from '../../../src/image/image-file';
import { formatManifest, parseManifest } from '../../../src/image/manifest';
import { decodeSlots, encodeSlots, slotsLength } from '../../../src/image/manifest-slots';
import { parseSuperblock } from '../../../src/image/superblock';
import type { NativeEntry } from '../../../src/native';
import { MiB } from '../../../src/units';
import { type SeededRandom, seededRandom, soakCount } from '../../counts';
import { sampleManifest, superblockBytes } from './golden';
import { rawSlots } from './raw-slots';
import { entry, pax, readAll, tar } from './tar-builder';

const directory = mkdtempSync(join(tmpdir(), 'loopbox-fuzz-'));
afterAll(() => rmSync(directory, { recursive: true }));

/** What is said of a strange input: that it is damaged, or of a kind or version that is not known. */
const judgements: ErrorCode[] = ['ERR_LOOPBOX_CORRUPT', 'ERR_LOOPBOX_NOT_SUPPORTED'];

/** What a strange input may make of a parser: a result, or a LoopboxError that says so. All else fails the test. */
async function resultOf<T>(parse: () => T | Promise<T>): Promise<T | undefined> {
  try {
    return await parse();
  } catch (error) {
    if (error instanceof LoopboxError && judgements.includes(error.code)) return undefined;
    throw error;
  }
}

const edges = [0, 1, 0x7f, 0x80, 0xfe, 0xff];

/** Changes some bytes: to others, to those at an edge, to a copy of others, or to a shorter or longer whole. */
function mutateBytes(bytes: Buffer, random: SeededRandom): Buffer {
  let result = Buffer.from(bytes);
  for (let times = 1 + random.below(6); times > 0; times--) {
    const at = random.below(result.length + 1);
    const length = Math.min(random.below(16) + 1, result.length - at);
    const change = random.below(6);
    if (change === 0) result[at] = random.below(256);
    else if (change === 1) result.fill(random.pick(edges), at, at + length);
    else if (change === 2) result[at] = (result[at] ?? 0) ^ (1 << random.below(8));
    else if (change === 3) result.copy(result, at, random.below(result.length + 1));
    else if (change === 4) result = Buffer.concat([result.subarray(0, at), result.subarray(at + length)]);
    else result = Buffer.concat([result.subarray(0, at), Buffer.alloc(length, random.pick(edges)), result.subarray(at)]);
  }
  return result;
}

// biome-ignore format: a list of things
const strangeValues: unknown[] = [
  null, true, false, 0, -1, 1.5, MiB, 2 ** 52, 2 ** 53 - MiB, 2 ** 53, 2 ** 62, 2 ** 63, -(2 ** 63), 1e308, '', '\0', '\ud800', '../..', '/', 'x'.repeat(5000), '\x1b[2J', 'ä', '1', 'none',
  [], [[]], [null], ['', ''], {}, { '': '' }, { __proto__: 1 }, { constructor: {} }, { length: 3 }, { toJSON: 'x' }, [1, 2, 3], { a: { b: { c: [{}] } } },
];
const strangeValue = (random: SeededRandom) => structuredClone(random.pick(strangeValues));

/** Every place in a JSON value, as the keys that lead to it. */
function places(value: unknown, path: string[] = []): string[][] {
  if (typeof value !== 'object' || value === null) return [path];
  return [path, ...Object.entries(value).flatMap(([key, child]) => places(child, [...path, key]))];
}

/** Sets, removes or adds something strange somewhere. */
function mutateValue(value: unknown, random: SeededRandom): unknown {
  const copy = structuredClone(value) as Record<string, unknown>;
  for (let times = 1 + random.below(3); times > 0; times--) {
    const path = random.pick(places(copy).filter((path) => path.length > 0));
    if (!path) return strangeValue(random);
    let parent = copy;
    for (const key of path.slice(0, -1)) parent = parent[key] as Record<string, unknown>;
    const key = path.at(-1) as string;
    const change = random.below(3);
    if (change === 0) delete parent[key];
    else if (change === 1) parent[key] = strangeValue(random);
    else parent[random.pick(['mounts', 'toString', '__proto__', 'devices', '', '\0', key.toUpperCase()])] = strangeValue(random);
  }
  return copy;
}

describe('strange input makes a parser return something sound or a LoopboxError:', () => {
  const manifest = sampleManifest({
    started: '2025-01-03T00:00:00Z',
    template: { name: 'debian-12:1.0', state: '11111111-2222-4333-8444-555555555555' },
    sealed: { lengthBytes: 2 * MiB + 65536, superblockCrc32c: 7 },
  });

  const { sealed: _, ...rest } = manifest;
  const deltaManifest = {
    ...rest,
    kind: 'delta' as const,
    parent: { state: '11111111-2222-4333-8444-555555555555', hint: 'base.img' },
    mapOffset: MiB,
    mapBytes: 4096,
    dataOffset: 2 * MiB,
    sealed: { lengthBytes: 4 * MiB, mapCrc32c: 7 },
    snapshot: { name: 'mon', created: '2025-01-02T03:04:05Z', consistency: 'crash' as const },
  };

  it('values of manifests', async () => {
    const random = seededRandom();
    for (let round = 0; round < soakCount(30_000); round++) {
      const json = JSON.stringify(mutateValue(manifest, random));
      const minor = random.pick([0, 0, 9]);
      const parsed = await resultOf(() => parseManifest(json, 'x', minor));
      // What was accepted can be written, and reads the same.
      if (parsed) expect(parseManifest(formatManifest(parsed.manifest), 'x', minor).manifest).toEqual(parsed.manifest);
    }
    expect(Object.keys({}.constructor.prototype as object)).toEqual([]);
  });

  it('values of manifests of deltas', async () => {
    const random = seededRandom();
    for (let round = 0; round < soakCount(30_000); round++) {
      const parsed = await resultOf(() => parseManifest(JSON.stringify(mutateValue(deltaManifest, random)), 'x'));
      if (parsed) expect(parseManifest(formatManifest(parsed.manifest), 'x').manifest).toEqual(parsed.manifest);
    }
  });

  it('whole deltas', async () => {
    const random = seededRandom();
    const path = join(directory, 'fuzz.delta');
    for (let round = 0; round < soakCount(3000); round++) {
      await using file = await open(path, 'w+');
      await file.truncate(random.pick([0, 2, 4, 5, 70_000 / MiB]) * MiB);
      const slots = random.below(2)
        ? rawSlots(JSON.stringify(mutateValue(deltaManifest, random)).slice(0, 32_000))
        : encodeSlots(deltaManifest);
      await file.write(random.below(2) ? mutateBytes(slots, random) : slots, 0, undefined, 0);
      await using delta = await resultOf(() => openDelta(path));
      if (!delta) continue;
      const { mapOffset, mapBytes, dataOffset, sizeBytes, fileSizeBytes } = delta;
      expect(mapOffset >= slotsLength && mapOffset + mapBytes <= dataOffset && dataOffset + sizeBytes <= fileSizeBytes).toBe(true);
      expect(mapBytes * 8 * 4096).toBeGreaterThanOrEqual(sizeBytes);
    }
  });

  it('bytes of manifests', async () => {
    const random = seededRandom();
    const json = Buffer.from(formatManifest(manifest));
    for (let round = 0; round < soakCount(30_000); round++) await resultOf(() => parseManifest(mutateBytes(json, random).toString(), 'x'));
  });

  it('slots', async () => {
    const random = seededRandom();
    const slots = encodeSlots(manifest);
    const json = formatManifest(manifest);
    for (let round = 0; round < soakCount(5000); round++) {
      decodeSlots(mutateBytes(slots, random));
      const footer = { major: random.below(4), minor: random.below(70_000) & 0xffff, generation: BigInt(random.below(2 ** 32)) };
      const whole = rawSlots(mutateBytes(Buffer.from(json), random), footer);
      const slot = decodeSlots(whole);
      expect(slot).toMatchObject(footer);
      await resultOf(() => parseManifest(slot?.json ?? '', 'x', slot?.minor));
    }
  });

  it('superblocks', () => {
    const random = seededRandom();
    const bytes = superblockBytes();
    for (let round = 0; round < soakCount(50_000); round++) {
      const superblock = parseSuperblock(mutateBytes(bytes, random));
      for (const value of Object.values(superblock ?? {})) {
        if (typeof value === 'number') expect(Number.isFinite(value) && value >= 0).toBe(true);
      }
    }
  });

  it('the first bytes of anything', () => {
    const random = seededRandom();
    for (let round = 0; round < soakCount(5000); round++) {
      identifyContent(mutateBytes(Buffer.alloc(random.below(0x10100), random.pick(edges)), random));
    }
  });

  it('whole images', async () => {
    const random = seededRandom();
    const path = join(directory, 'fuzz.img');
    for (let round = 0; round < soakCount(3000); round++) {
      await using file = await open(path, 'w+');
      await file.truncate(2 * MiB);
      const superblock = superblockBytes({ sizeBytes: MiB * random.pick([1, 2, 3]) });
      const head = random.below(2) ? withChecksum(mutateBytes(superblock, random)) : superblock;
      await file.write(head, 0, Math.min(head.length, 1024), 1024);
      await placeManifest(file.fd, 2 * MiB, { ...manifest, sizeBytes: 2 * MiB });
      const json = random.below(2) ? JSON.stringify(mutateValue({ ...manifest, sizeBytes: 2 * MiB }, random)) : '';
      if (json && json.length < 32_000) await file.write(rawSlots(json, { minor: random.pick([0, 3]) }), 0, slotsLength, 2 * MiB);
      else if (random.below(2))
        await file.write(mutateBytes(encodeSlots(manifest), random).subarray(0, slotsLength), 0, undefined, 2 * MiB);
      if (random.below(4) === 0) await file.truncate(random.below(5 * MiB));
      for (const read of [openImage, rescueImage]) {
        await using image = await resultOf(() => read(path));
        if (!image) continue;
        expect(image.sizeBytes).toBeGreaterThan(0);
        expect(image.superblock.sizeBytes).toBeLessThanOrEqual(image.fileSizeBytes);
      }
    }
  });

  function withChecksum(superblock: Buffer): Buffer {
    const bytes = Buffer.alloc(1024);
    superblock.copy(bytes);
    bytes.writeUInt32LE(~crc32c(bytes.subarray(0, 0x3fc)) >>> 0, 0x3fc);
    return bytes;
  }
});

describe('strange archives', () => {
  const whole = tar(
    entry({ name: './', type: '5', mode: '0000755' }),
    entry({ name: 'dir/', type: '5' }),
    pax({ path: 'dir/long name', mtime: '1700000000.123456789', 'SCHILY.xattr.user.a': 'b', uid: '70000' }),
    entry({ name: 'x' }, 'content of the file'),
    entry({ name: 'link', type: '2', linkname: '../x' }),
    entry({ name: 'hard', type: '1', linkname: 'dir/long name' }),
    entry({ name: 'null', type: '3', devmajor: '0000001', devminor: '0000003' }),
    pax({ comment: 'for all' }, 'g'),
    entry({ name: '././@LongLink', type: 'L' }, `${'n'.repeat(200)}\0`),
    entry({ name: 'n' }, Buffer.alloc(3000, 'y')),
  );

  /** Headers whose checksum is right in spite of all get further than the first look. */
  function repairChecksums(bytes: Buffer): Buffer {
    for (let at = 0; at + 512 <= bytes.length; at += 512) {
      if (!bytes.subarray(at + 257, at + 262).equals(Buffer.from('ustar'))) continue;
      bytes.fill(' ', at + 148, at + 156);
      const sum = bytes.subarray(at, at + 512).reduce((total, byte) => total + byte, 0);
      bytes.write(`${sum.toString(8).padStart(6, '0')}\0 `, at + 148, 'latin1');
    }
    return bytes;
  }

  it('end in a LoopboxError, or in entries that lie in the root and can be made', async () => {
    const random = seededRandom();
    let accepted = 0;
    for (let round = 0; round < soakCount(6000); round++) {
      const bytes = random.below(4) === 0 ? mutateBytes(whole, random) : repairChecksums(mutateInPlace(whole, random));
      const entries = await resultOf(() => readAll(bytes, { chunkLength: random.pick([100, 512, 4096, 65536]) }));
      for (const one of entries ?? []) expectSound(one);
      if (entries) accepted++;
    }
    // Neither is what the generator makes always refused.
    expect(accepted).toBeGreaterThan(soakCount(6000) / 20);
  });

  /** Fields change, blocks stay where they are. */
  function mutateInPlace(bytes: Buffer, random: SeededRandom): Buffer {
    const result = Buffer.from(bytes);
    for (let times = 1 + random.below(4); times > 0; times--) {
      const at = random.below(result.length);
      if (random.below(3) === 0) result.fill(random.pick(edges), at, Math.min(at + 1 + random.below(12), result.length));
      else result[at] = random.pick([...edges, ...Buffer.from('/.0129=\n \\SgxLK')]);
    }
    return result;
  }

  function expectSound({ path, type, mode, uid, gid, mtimeNs, target, major = 0, minor = 0 }: NativeEntry): void {
    expect(path.startsWith('/') || path.split('/').includes('..') || path === '' || path.includes('\0')).toBe(false);
    if (path === '.') expect(type).toBe('directory');
    for (const number of [mode, uid, gid, major, minor]) expect(Number.isInteger(number) && number >= 0 && number < 2 ** 32).toBe(true);
    expect(mtimeNs >= -(2n ** 63n) && mtimeNs < 2n ** 63n).toBe(true);
    if (type === 'hardlink') expect(target?.startsWith('/') || target?.split('/').includes('..')).toBe(false);
    if (type === 'symlink' || type === 'hardlink') expect(target).toBeTruthy();
  }
});
