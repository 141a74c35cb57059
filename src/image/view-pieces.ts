import { native } from '../native';
import { GiB } from '../units';
import { blockSize } from './delta-geometry';
import { readAt } from './file-io';
import { intersectRuns, ownedRuns, type Runs, subtractRuns } from './owned-runs';

/** What is looked at at a time. A multiple of 32 KiB, so that its map begins with a byte; small enough for the worst of maps. */
const windowLength = 4 * GiB;

/** The map of a window in most files of a chain, which is told at once. */
const nothingOwned = Buffer.alloc(windowLength / blockSize / 8);

/** What a reader needs of one file of a chain. */
export interface ViewLayer {
  readonly fd: number;
  readonly label: string;
  /** V: what lies beyond it is no part of any view that passes this layer. */
  readonly sizeBytes: number;
  /** Of a delta: where its map and its block 0 are, and the first block that its map counts for. An image owns all. */
  readonly delta?: { readonly mapOffset: number; readonly dataOffset: number; readonly fromBlock: number };
}

/** Bytes `start` to `end` of the disk, and the layer that holds them; undefined where they are zeroes that no file holds. */
export interface Piece {
  start: number;
  end: number;
  layer: ViewLayer | undefined;
}

/**
 * Takes the view of a chain, bottom first, apart: all of 0 to V of its top, in order, a window at a time. A hole of the file that owns
 * a block is zeroes, whatever lies below. What the files hold must not change meanwhile, but for maps of a running top.
 */
export async function* viewPieces(layers: readonly ViewLayer[], signal?: AbortSignal): AsyncGenerator<Piece[]> {
  const sizeBytes = layers.at(-1)?.sizeBytes ?? 0;
  for (let start = 0; start < sizeBytes; start += windowLength) {
    signal?.throwIfAborted();
    yield piecesOf(layers, start, Math.min(start + windowLength, sizeBytes));
  }
}

async function piecesOf(layers: readonly ViewLayer[], start: number, end: number): Promise<Piece[]> {
  const pieces: Piece[] = [];
  // What no layer above owns. A layer's own end is one for all below it, too.
  let open: Runs = [start, end];
  for (const layer of [...layers].reverse()) {
    open = intersectRuns(open, [0, layer.sizeBytes]);
    const owned = layer.delta ? intersectRuns(open, await runsOfMap(layer.fd, layer.delta, start, end)) : open;
    open = subtractRuns(open, owned);
    const data = intersectRuns(owned, await dataOf(layer, owned));
    for (let i = 0; i < data.length; i += 2) pieces.push({ start: data[i] as number, end: data[i + 1] as number, layer });
  }
  return withZeroes(
    pieces.sort((a, b) => a.start - b.start),
    start,
    end,
  );
}

/** What a map says of `start` to `end`, in bytes of the disk. */
async function runsOfMap(fd: number, { mapOffset, fromBlock }: NonNullable<ViewLayer['delta']>, start: number, end: number): Promise<Runs> {
  const first = start / blockSize;
  const blocks = Math.ceil(end / blockSize) - first;
  const map = await readAt(fd, mapOffset + first / 8, Math.ceil(blocks / 8));
  if (map.equals(nothingOwned.subarray(0, map.length))) return [];
  const runs = ownedRuns(map, first, blocks).map((block) => block * blockSize);
  return fromBlock > first ? intersectRuns(runs, [fromBlock * blockSize, end]) : runs;
}

/** Where the file of a layer holds data, from the first of its runs to the last, in bytes of the disk. */
async function dataOf({ fd, delta }: ViewLayer, owned: Runs): Promise<Runs> {
  if (owned.length === 0) return [];
  const shift = delta?.dataOffset ?? 0;
  const ranges = await native().dataRanges(fd, shift + (owned[0] as number), shift + (owned.at(-1) as number));
  return Array.from(ranges, (position) => position - shift);
}

function withZeroes(pieces: Piece[], start: number, end: number): Piece[] {
  const all: Piece[] = [];
  let position = start;
  for (const piece of pieces) {
    if (piece.start > position) all.push({ start: position, end: piece.start, layer: undefined });
    all.push(piece);
    position = piece.end;
  }
  if (position < end) all.push({ start: position, end, layer: undefined });
  return all;
}
