import { basename, dirname } from 'node:path';
import type { Chain } from '../image/chain';
import { blockSize } from '../image/delta-geometry';
import type { LayerFile } from '../image/layer-file';
import { type Piece, viewPieces } from '../image/view-pieces';
import { openChain } from './open-chain';
import { findSnapshot } from './snapshot-files';
import { parseSnapshotArgument } from './snapshot-names';
import type { Store } from './store';
import { StoreFiles } from './store-files';
import { resolveTarget } from './target';

export interface MappedFile {
  name: string;
  path: string;
  kind: LayerFile['kind'];
  /** How much of the disk comes from it. */
  bytes: number;
}

/** An even part of the disk. */
export interface MapCell {
  /** The file that most of what is in it comes from, by its place in `files`; null where nothing is. */
  file: number | null;
  /** How much of it comes from any file. */
  bytes: number;
}

/** Which file each region of a disk comes from. The bytes of all files and `emptyBytes` add up to `sizeBytes`. */
export interface DiskMap {
  name: string;
  sizeBytes: number;
  /** The top first. */
  files: MappedFile[];
  /** What no file holds: never written, or discarded. */
  emptyBytes: number;
  /** Of a cell; the last one may be cut short. */
  cellBytes: number;
  cells: MapCell[];
}

export interface MapOptions {
  /** At most so many cells. */
  cells: number;
  signal?: AbortSignal | undefined;
}

/** Maps a container, a snapshot or a FILE. Nothing is locked: of one that runs, its last flush is what is seen. */
export async function mapContainer(store: Store, argument: string, options: MapOptions): Promise<DiskMap> {
  const { container, snapshot } = parseSnapshotArgument(argument);
  const place =
    snapshot === undefined
      ? resolveTarget(store, container)
      : { path: findSnapshot(await StoreFiles.scan(store, { signal: options.signal }), container, snapshot).path, label: argument };
  await using chain = await openChain(store, place, { signal: options.signal });
  return await mapChain(chain, argument, options);
}

async function mapChain(chain: Chain, name: string, options: MapOptions): Promise<DiskMap> {
  const layers = chain.viewLayers().reverse();
  const files = [...chain.layers].reverse();
  const bytes = layers.map(() => 0);
  const { sizeBytes } = chain;
  // A power of two: places in the picture are round numbers.
  const cellBytes = Math.max(blockSize, 2 ** Math.ceil(Math.log2(sizeBytes / options.cells)));
  // One number for each file in each cell.
  const tally = Array.from({ length: Math.ceil(sizeBytes / cellBytes) }, () => new Float64Array(layers.length));
  for await (const pieces of viewPieces([...layers].reverse(), options.signal)) {
    for (const piece of pieces) {
      if (!piece.layer) continue;
      const file = layers.indexOf(piece.layer);
      bytes[file] = (bytes[file] ?? 0) + piece.end - piece.start;
      addToCells(tally, cellBytes, piece, file);
    }
  }
  return {
    name,
    sizeBytes,
    files: files.map(({ path, kind }, index) => ({ name: nameOf(path, files), path, kind, bytes: bytes[index] ?? 0 })),
    emptyBytes: bytes.reduce((rest, some) => rest - some, sizeBytes),
    cellBytes,
    cells: tally.map(cellOf),
  };
}

function addToCells(tally: Float64Array[], cellBytes: number, { start, end }: Piece, file: number): void {
  for (let index = Math.floor(start / cellBytes); index * cellBytes < end; index++) {
    const cell = tally[index];
    if (cell) cell[file] = (cell[file] ?? 0) + Math.min(end, (index + 1) * cellBytes) - Math.max(start, index * cellBytes);
  }
}

function cellOf(tally: Float64Array): MapCell {
  const most = Math.max(...tally);
  return { file: most > 0 ? tally.indexOf(most) : null, bytes: tally.reduce((sum, bytes) => sum + bytes, 0) };
}

/** A file's name, with its directory's where two of the chain have the same. */
function nameOf(path: string, files: LayerFile[]): string {
  const isTaken = files.some((other) => other.path !== path && basename(other.path) === basename(path));
  return isTaken ? `${basename(dirname(path))}/${basename(path)}` : basename(path);
}
