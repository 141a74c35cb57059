import { basename, dirname } from 'node:path';
import { LoopboxError } from '../errors';
import type { DeltaFile } from './delta-file';
import { blockSize } from './delta-geometry';
import { readAt } from './file-io';
import { parseFileName } from './file-names';
import type { ImageFile } from './image-file';
import { type LayerFile, openLayer } from './layer-file';
import type { Manifest } from './manifest';
import { verifySeal } from './seal';
import { type IndexedFile, isSameContainer, isSameFile, type StateIndex } from './state-index';
import type { ViewLayer } from './view-pieces';

/** An image and at most so many deltas. */
const maxDeltas = 126;

/** A merge in the middle of a chain: below the cursor what is below has the source's blocks, and the source has no say. */
export interface ChainFold {
  source: DeltaFile;
  into: LayerFile;
  /** In blocks. */
  cursor: number;
}

/** The open files that make up one state, bottom (the image) first. */
export class Chain implements AsyncDisposable {
  constructor(
    readonly layers: readonly LayerFile[],
    readonly fold: ChainFold | undefined,
  ) {}

  get image(): ImageFile {
    return this.layers[0] as ImageFile;
  }

  get top(): LayerFile {
    return this.layers.at(-1) as LayerFile;
  }

  /** V: a view ends where its top says, whatever is below. */
  get sizeBytes(): number {
    return this.top.sizeBytes;
  }

  /** What a reader of the view needs of each layer. */
  viewLayers(): ViewLayer[] {
    return this.layers.map((layer) => {
      const { fd, label, sizeBytes } = layer;
      if (layer.kind === 'image') return { fd, label, sizeBytes };
      const fromBlock = layer === this.fold?.source ? this.fold.cursor : 0;
      return { fd, label, sizeBytes, delta: { mapOffset: layer.mapOffset, dataOffset: layer.dataOffset, fromBlock } };
    });
  }

  /** Idempotent. */
  async close(): Promise<void> {
    await Promise.all(this.layers.map((layer) => layer.close()));
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

/** Reads whole blocks of a chain's view; zeroes where no layer has any. A few: larger parts are read in pieces (`viewPieces`). */
export async function readBlocks(chain: Chain, offset: number, length: number): Promise<Buffer> {
  if (offset % blockSize !== 0 || length % blockSize !== 0) throw new RangeError('readBlocks: not whole blocks');
  const result = Buffer.alloc(length);
  for (let done = 0; done < length; done += blockSize) {
    const position = offset + done;
    const owner = await ownerOf(chain.viewLayers(), position);
    const data =
      owner && (await readAt(owner.fd, position + (owner.delta?.dataOffset ?? 0), Math.min(blockSize, owner.sizeBytes - position)));
    data?.copy(result, done);
  }
  return result;
}

async function ownerOf(layers: ViewLayer[], position: number): Promise<ViewLayer | undefined> {
  const block = position / blockSize;
  for (const layer of layers.reverse()) {
    // A view ends at the layer's own V, whatever is below.
    if (position >= layer.sizeBytes) return undefined;
    if (!layer.delta) return layer;
    if (block < layer.delta.fromBlock) continue;
    const [byte = 0] = await readAt(layer.fd, layer.delta.mapOffset + Math.floor(block / 8), 1);
    if ((byte >> (block % 8)) & 1) return layer;
  }
  return undefined;
}

export interface ResolveOptions {
  /** Opens what belongs to the top's own container for writing, too; what others have is only ever read. */
  write?: boolean;
}

/**
 * Opens what is below `top`, by the link rule, and makes sure that each sealed file is what was sealed. The chain takes the top over,
 * and closes it where this fails. The index is asked for only where there is something below.
 * CORRUPT where a parent is missing (its last known name is told), was changed, goes in a circle, or there are more than 126 deltas.
 */
export async function resolveChain(
  top: LayerFile,
  index: StateIndex | (() => Promise<StateIndex>),
  options: ResolveOptions = {},
): Promise<Chain> {
  const layers: LayerFile[] = [top];
  let fold: ChainFold | undefined;
  try {
    await verifySeal(top);
    if (top.kind === 'image') return new Chain(layers, undefined);
    const states = typeof index === 'function' ? await index() : index;
    for (let file: LayerFile = top; file.kind === 'delta'; ) {
      const place = placeOf(file);
      // It may say that it is what this one stands on.
      states.requireRead(({ directory, parsed }) => parsed?.role === 'fold' && isSameContainer({ directory, parsed }, place));
      const beside = states.mergeBeside(place);
      if (beside) throw otherCopy(top, file, beside);
      const parent = states.below(place);
      if (!parent) throw missingParent(top, file, states);
      if (layers.some((layer) => isSameFile(layer, parent))) throw broken(top, `"${parent.fileName}" stands on itself`, parent.path);
      if (parent.manifest.kind === 'delta' && layers.length >= maxDeltas)
        throw broken(top, `its chain has more than ${maxDeltas} deltas`, parent.path);
      const below = await openParent(parent, top, options.write ?? false);
      layers.push(below);
      await verifySeal(below);
      const { fold: record } = below.manifest ?? {};
      if (record?.to === place.manifest.state) fold = { source: file, into: below, cursor: record.cursor };
      file = below;
    }
    return new Chain(layers.reverse(), fold);
  } catch (error) {
    for (const layer of layers) await layer.close();
    throw error;
  }
}

/** Where a file is, as the index has it. */
function placeOf(file: LayerFile & { manifest: Manifest }): Pick<IndexedFile, 'directory' | 'parsed' | 'manifest' | 'device' | 'inode'> {
  const { device, inode, manifest, path } = file;
  return { directory: dirname(path), parsed: parseFileName(basename(path)), device, inode, manifest };
}

async function openParent(parent: IndexedFile, top: LayerFile, write: boolean): Promise<LayerFile> {
  const own = placeOfPath(top.path);
  const isOwn = parent.directory === own.directory && parent.parsed !== undefined && parent.parsed.name === own.parsed?.name;
  const file = await openLayer(parent.path, { write: write && isOwn, noFollow: true });
  if (isSameFile(file, parent) && file.manifest?.state === parent.manifest.state) return file;
  await file.close();
  throw new LoopboxError('ERR_LOOPBOX_IN_USE', `Cannot open "${top.label}": "${parent.fileName}" was replaced meanwhile`, {
    path: parent.path,
    hint: 'try again',
  });
}

function placeOfPath(path: string) {
  return { directory: dirname(path), parsed: parseFileName(basename(path)) };
}

function missingParent(top: LayerFile, child: DeltaFile, states: StateIndex): LoopboxError {
  const { parent } = child.manifest;
  const who = child === top ? 'it' : `"${basename(child.path)}"`;
  if (!parent) return broken(top, `${who} does not say what it stands on`, child.path);
  const hint = parent.hint ?? 'a file whose name is not known';
  // A damaged file of that name is more likely the reason than a missing one.
  const damaged = states.damaged.find(({ fileName }) => fileName === parent.hint);
  if (damaged && states.unread.includes(damaged)) return damaged.error;
  if (damaged) return broken(top, `${who} needs "${hint}": ${damaged.error.message}`, damaged.path, damaged.error.hint);
  return broken(
    top,
    `${who} needs "${hint}" (state ${parent.state}), which is not here`,
    child.path,
    `copy "${hint}" to ${dirname(child.path)}`,
  );
}

function otherCopy(top: LayerFile, { path }: DeltaFile, { fileName }: IndexedFile): LoopboxError {
  const state = `"${basename(path)}" is another copy of the file that is being merged with "${fileName}"`;
  return broken(top, state, path, 'bring all files of the container back from one backup');
}

function broken(top: LayerFile, state: string, path: string, hint?: string): LoopboxError {
  return new LoopboxError('ERR_LOOPBOX_CORRUPT', `Cannot open "${top.label}": ${state}`, { path, hint });
}
