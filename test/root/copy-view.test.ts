import { closeSync, fstatSync, ftruncateSync, openSync, readFileSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { beforeAll, describe, expect, it } from 'vitest';
import { copyView } from '../../src/image/copy-view';
import { slotsLength } from '../../src/image/manifest-slots';
import { writeImageToStream } from '../../src/image/stream-image';
import { type ViewLayer, viewPieces } from '../../src/image/view-pieces';
import { native } from '../../src/native';
import type { ProgressEvent } from '../../src/progress';
import { GiB, KiB, MiB } from '../../src/units';
import { cleanUp, SeededRandom, temporaryDirectory, xfsDirectory } from '../fixtures';
import { sampleManifest } from '../unit/image/golden';

const block = 4 * KiB;
let directory: string;
let count = 0;
beforeAll(async () => {
  directory = await temporaryDirectory();
});

function newFile(place = directory): number {
  const fd = openSync(join(place, `${++count}`), 'wx+');
  cleanUp(() => closeSync(fd));
  return fd;
}

/** A run of blocks that one layer writes: with a byte, or as a hole. */
interface Written {
  first: number;
  blocks: number;
  byte: number | 'hole';
}

/** A layer's file by hand, sharing no code with what reads it: map at 1 MiB, data at 2 MiB. */
function makeLayer(kind: 'image' | 'delta', sizeBytes: number, written: Written[], place?: string): ViewLayer {
  const fd = newFile(place);
  const [mapOffset, dataOffset] = kind === 'delta' ? [MiB, 2 * MiB] : [0, 0];
  ftruncateSync(fd, dataOffset + sizeBytes + (kind === 'image' ? slotsLength : 0));
  const map = Buffer.alloc(Math.ceil(sizeBytes / block / 8));
  for (const { first, blocks, byte } of written) {
    if (byte !== 'hole') writeSync(fd, Buffer.alloc(blocks * block, byte), 0, blocks * block, dataOffset + first * block);
    for (let b = first; b < first + blocks; b++) map[b >> 3] = (map[b >> 3] ?? 0) | (1 << (b & 7));
  }
  if (kind === 'delta') writeSync(fd, map, 0, map.length, mapOffset);
  const layer = { fd, label: `${kind} ${count}`, sizeBytes };
  return kind === 'delta' ? { ...layer, delta: { mapOffset, dataOffset, fromBlock: 0 } } : layer;
}

/** What a disk holds after all that was written to it, in order; each layer ends the disk of those below. */
function contentOf(layers: { sizeBytes: number; written: Written[] }[]): Buffer {
  let disk = Buffer.alloc(0);
  for (const { sizeBytes, written } of layers) {
    const next = Buffer.alloc(sizeBytes);
    disk.copy(next);
    disk = next;
    for (const { first, blocks, byte } of written) disk.fill(byte === 'hole' ? 0 : byte, first * block, (first + blocks) * block);
  }
  return disk;
}

async function dataBytes(fd: number): Promise<number> {
  const ranges = await native().dataRanges(fd, 0, fstatSync(fd).size);
  return ranges.reduce((sum, position, index) => (index % 2 ? sum + position : sum - position), 0);
}

/** A chain of seeded writes that overlap in every way; sizes go up and down. */
function seededChain(seed: number, depth: number): { sizeBytes: number; written: Written[] }[] {
  const random = new SeededRandom(seed);
  const upTo = (limit: number) => random.below(limit);
  return Array.from({ length: depth }, (_, level) => {
    const sizeBytes = (4 + upTo(4)) * MiB;
    const written = Array.from({ length: 1 + upTo(12) }, (_, index): Written => {
      const first = upTo(sizeBytes / block);
      const blocks = 1 + upTo(Math.min(sizeBytes / block - first, index % 3 ? 8 : 200));
      return { first, blocks, byte: level > 0 && upTo(4) === 0 ? 'hole' : 1 + ((level * 16 + index) % 255) };
    });
    // A layer is written by hand in one go: what it discards it has not written before.
    return { sizeBytes, written: apart(written) };
  });
}

function apart(written: Written[]): Written[] {
  const taken = new Set<number>();
  return written.filter(({ first, blocks }) => {
    const all = Array.from({ length: blocks }, (_, index) => first + index);
    if (all.some((one) => taken.has(one))) return false;
    for (const one of all) taken.add(one);
    return true;
  });
}

const layersOf = (chain: { sizeBytes: number; written: Written[] }[], place?: string) =>
  chain.map(({ sizeBytes, written }, level) => makeLayer(level === 0 ? 'image' : 'delta', sizeBytes, written, place));

describe('the view of a chain', () => {
  it.each([1, 2, 3, 8])('of %i files is copied and streamed as what was written to them, in order', async (depth) => {
    for (let seed = 1; seed <= 8; seed++) {
      const chain = seededChain(seed * 100 + depth, depth);
      const layers = layersOf(chain);
      const content = contentOf(chain);
      const copy = newFile();
      await copyView(layers, copy);
      expect(readFileSync(join(directory, `${count}`)).equals(content)).toBe(true);
      const held = await Promise.all(layers.map(({ fd }) => dataBytes(fd)));
      expect(await dataBytes(copy)).toBeLessThanOrEqual(held.reduce((sum, bytes) => sum + bytes, 0));

      const stream = new PassThrough();
      const streamed = buffer(stream);
      await writeImageToStream(layers, sampleManifest({ sizeBytes: content.length }), stream);
      stream.end();
      const bytes = await streamed;
      expect(bytes.length).toBe(content.length + slotsLength);
      expect(bytes.subarray(0, content.length).equals(content)).toBe(true);
    }
  });

  it('is the parent again below the block from which a map counts', async () => {
    const chain = [
      { sizeBytes: 4 * MiB, written: [{ first: 0, blocks: 1024, byte: 1 }] },
      { sizeBytes: 4 * MiB, written: [{ first: 10, blocks: 100, byte: 2 }] },
    ];
    const [image, delta] = layersOf(chain) as [ViewLayer, ViewLayer];
    const folding = { ...delta, delta: { mapOffset: MiB, dataOffset: 2 * MiB, fromBlock: 50 } };
    await copyView([image, folding], newFile());
    const copy = readFileSync(join(directory, `${count}`));
    expect([copy[49 * block], copy[50 * block], copy[109 * block], copy[110 * block]]).toEqual([1, 2, 2, 1]);
  });

  it('keeps holes of a disk far larger than what is on it, and ends with it', async () => {
    const sizeBytes = 64 * GiB;
    const at = (sizeBytes - MiB) / block;
    const layers = [
      makeLayer('image', sizeBytes, [{ first: 3, blocks: 2, byte: 7 }]),
      makeLayer('delta', sizeBytes, []),
      makeLayer('delta', sizeBytes, [{ first: at, blocks: 1, byte: 8 }]),
    ].map((layer) => (layer.delta ? { ...layer, delta: { ...layer.delta, dataOffset: 4 * MiB } } : layer));
    // The map of 64 GiB takes 2 MiB.
    const top = layers[2] as ViewLayer;
    ftruncateSync(top.fd, 4 * MiB + sizeBytes);
    writeSync(top.fd, Buffer.alloc(block, 8), 0, block, 4 * MiB + at * block);
    const pieces = [];
    for await (const some of viewPieces(layers)) pieces.push(...some.filter(({ layer }) => layer));
    expect(pieces).toEqual([
      { start: 3 * block, end: 5 * block, layer: layers[0] },
      { start: at * block, end: (at + 1) * block, layer: top },
    ]);
    const copy = newFile();
    expect(await copyView(layers, copy)).toBe('copy');
    expect(fstatSync(copy).size).toBe(sizeBytes);
    expect(await dataBytes(copy)).toBe(3 * block);
  });

  it('is shared block by block where the host has reflinks', async () => {
    const place = await xfsDirectory();
    const chain = seededChain(7, 3);
    const layers = layersOf(chain, place);
    const copy = newFile(place);
    expect(await copyView(layers, copy)).toBe('reflink');
    expect(readFileSync(join(place, `${count}`)).equals(contentOf(chain))).toBe(true);
    expect(await native().sharedBytes(copy)).toBe(fstatSync(copy).blocks * 512);
    // Across file systems nothing can be shared.
    const elsewhere = newFile();
    expect(await copyView(layers, elsewhere)).toBe('copy');
    expect(readFileSync(join(directory, `${count}`)).equals(contentOf(chain))).toBe(true);
  });

  it('is copied with progress up to its length, and not further once aborted', async () => {
    const layers = layersOf(seededChain(3, 3));
    const sizeBytes = layers.at(-1)?.sizeBytes ?? 0;
    const events: ProgressEvent[] = [];
    await copyView(layers, newFile(), { onProgress: (event) => events.push(event) });
    expect(events.at(-1)).toEqual({ action: 'copying', doneBytes: sizeBytes, totalBytes: sizeBytes });
    const controller = new AbortController();
    controller.abort(new Error('enough'));
    await expect(copyView(layers, newFile(), { signal: controller.signal })).rejects.toThrow('enough');
    await expect(
      writeImageToStream(layers, sampleManifest({ sizeBytes }), new PassThrough(), { signal: controller.signal }),
    ).rejects.toThrow('enough');
  });

  it('whose file became shorter is no stream of zeroes', async () => {
    const file = join(directory, `${++count}`);
    writeFileSync(file, Buffer.alloc(4 * MiB, 1));
    const fd = openSync(file, 'r+');
    cleanUp(() => closeSync(fd));
    const stream = new PassThrough({ highWaterMark: 1 });
    const done = writeImageToStream([{ fd, label: 'short', sizeBytes: 4 * MiB }], sampleManifest({ sizeBytes: 4 * MiB }), stream);
    stream.once('data', () => {
      stream.pause();
      ftruncateSync(fd, MiB);
      stream.resume();
    });
    await expect(done).rejects.toThrow('"short" became shorter while it was read');
  });
});
