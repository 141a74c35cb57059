import { describe, expect, it } from 'vitest';
import { intersectRuns, ownedRuns, type Runs, subtractRuns } from '../../../src/image/owned-runs';
import { seededBytes } from './golden';

describe('the runs of a presence map', () => {
  it('are those of its set bits, the lowest bit of a byte first', () => {
    expect(ownedRuns(Buffer.from([0b0001_1101, 0xff, 0b1]), 0, 24)).toEqual([0, 1, 2, 5, 8, 17]);
    expect(ownedRuns(Buffer.from([0, 0]), 0, 16)).toEqual([]);
    expect(ownedRuns(Buffer.from([0xff, 0xff]), 100, 16)).toEqual([100, 116]);
  });

  it('end with the blocks that are asked for, also within a byte', () => {
    expect(ownedRuns(Buffer.from([0xff, 0xff]), 0, 11)).toEqual([0, 11]);
    expect(ownedRuns(Buffer.from([0xff, 0xf8]), 0, 11)).toEqual([0, 8]);
    // A map that was cut short owns nothing beyond its end.
    expect(ownedRuns(Buffer.from([0xff]), 0, 16)).toEqual([0, 8]);
  });
});

describe('runs of seeded maps are', () => {
  const blocks = 1003;
  /** Bytes that are often all or nothing. */
  const maps = Array.from({ length: 40 }, (_, seed) =>
    seededBytes(seed, Math.ceil(blocks / 8)).map((byte) => (byte < 80 ? 0 : byte > 175 ? 255 : byte)),
  );
  const blocksOf = (runs: Runs) => {
    const all: number[] = [];
    for (let i = 0; i < runs.length; i += 2) for (let block = runs[i] as number; block < (runs[i + 1] as number); block++) all.push(block);
    return all;
  };
  const owned = (map: Uint8Array) => Array.from({ length: blocks }, (_, block) => block).filter((b) => ((map[b >> 3] ?? 0) >> (b & 7)) & 1);

  it('exactly their bits', () => {
    for (const map of maps) expect(blocksOf(ownedRuns(map, 0, blocks))).toEqual(owned(map));
  });

  it('intersected and subtracted block by block', () => {
    for (const [index, map] of maps.entries()) {
      const other = maps[(index + 1) % maps.length] as Uint8Array;
      const theirs = new Set(owned(other));
      const [a, b] = [ownedRuns(map, 0, blocks), ownedRuns(other, 0, blocks)];
      expect(blocksOf(intersectRuns(a, b))).toEqual(owned(map).filter((block) => theirs.has(block)));
      expect(blocksOf(subtractRuns(a, b))).toEqual(owned(map).filter((block) => !theirs.has(block)));
    }
  });
});
