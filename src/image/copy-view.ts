import { native } from '../native';
import type { WorkOptions } from '../progress';
import { formatSize, MiB } from '../units';
import { copyImage } from './copy-image';
import { lengthen } from './lengthen';
import { type Piece, type ViewLayer, viewPieces } from './view-pieces';

/** How much of the disk is copied between two looks at the signal. */
const sliceLength = 64 * MiB;

/**
 * Copies the view of a chain, bottom first, into the empty file `destination`, which gets its top's length: blocks are shared where the host can,
 * else data only, holes and discarded blocks being holes. Progress counts the bytes of the disk. The caller syncs.
 * Returns how; `copy` where some had to be copied.
 */
export async function copyView(layers: readonly ViewLayer[], destination: number, options: WorkOptions = {}): Promise<'reflink' | 'copy'> {
  const [bottom] = layers;
  const sizeBytes = layers.at(-1)?.sizeBytes ?? 0;
  // One call shares all of an image, whatever its extents.
  if (bottom && layers.length === 1 && !bottom.delta) return copyImage(bottom.fd, destination, sizeBytes, options);
  await lengthen(destination, sizeBytes, `a copy of ${formatSize(sizeBytes)}`);
  const unshared = new Set<ViewLayer>();
  for await (const pieces of viewPieces(layers, options.signal)) {
    for (const slice of slices(pieces)) {
      options.signal?.throwIfAborted();
      for (const [layer, ranges] of byLayer(slice)) {
        const shared = await native().copyRanges(layer.fd, destination, layer.delta?.dataOffset ?? 0, ranges, !unshared.has(layer));
        if (shared < lengthOf(ranges)) unshared.add(layer);
      }
      const start = slice[0]?.start ?? 0;
      await native().startWriteback(destination, start, (slice.at(-1)?.end ?? 0) - start);
      options.onProgress?.({ action: 'copying', doneBytes: slice.at(-1)?.end ?? 0, totalBytes: sizeBytes });
    }
  }
  return unshared.size > 0 ? 'copy' : 'reflink';
}

/** The pieces in lots of at most 64 MiB of data; one that is longer is cut. */
function* slices(pieces: Piece[]): Generator<Piece[]> {
  let slice: Piece[] = [];
  let room = sliceLength;
  for (const { start, end, layer } of pieces) {
    for (let position = start; position < end; ) {
      const next = layer ? Math.min(end, position + room) : end;
      slice.push({ start: position, end: next, layer });
      if (layer) room -= next - position;
      position = next;
      if (room > 0) continue;
      yield slice;
      slice = [];
      room = sliceLength;
    }
  }
  if (slice.length > 0) yield slice;
}

/** One call a layer, however many its pieces. */
function byLayer(slice: Piece[]): [ViewLayer, Float64Array][] {
  const ranges = new Map<ViewLayer, number[]>();
  for (const { start, end, layer } of slice) {
    if (!layer) continue;
    const list = ranges.get(layer);
    if (list) list.push(start, end);
    else ranges.set(layer, [start, end]);
  }
  return [...ranges].map(([layer, list]) => [layer, Float64Array.from(list)]);
}

function lengthOf(ranges: Float64Array): number {
  return ranges.reduce((sum, position, index) => (index % 2 === 0 ? sum - position : sum + position), 0);
}
