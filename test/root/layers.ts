import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type Chain, resolveChain } from '../../src/image/chain';
import { createDelta, type DeltaFile, openDelta } from '../../src/image/delta-file';
import { readAt, writeAt } from '../../src/image/file-io';
import { placeManifest } from '../../src/image/image-file';
import { type LayerFile, openLayer } from '../../src/image/layer-file';
import { type Manifest, noState } from '../../src/image/manifest';
import { NewFile } from '../../src/image/new-file';
import { seal } from '../../src/image/seal';
import { StateIndex } from '../../src/image/state-index';
import { KiB, MiB } from '../../src/units';
import { newUuid } from '../../src/uuid';
import { shell, temporaryDirectory } from '../fixtures';
import { superblockBytes } from '../unit/image/golden';

export const block = 4 * KiB;
export const diskBytes = 4 * MiB;

/** A disk's content in a test: what each block is filled with; 0 is zeroes, and what the first holds beside is a superblock. */
export type Disk = number[];

export function emptyDisk(sizeBytes = diskBytes): Disk {
  return Array.from({ length: sizeBytes / block }, () => 0);
}

export interface LayerOptions {
  state?: string;
  sizeBytes?: number;
  sealed?: boolean;
  manifest?: Partial<Manifest>;
}

/** Files of containers in one directory, small, with blocks that tell where they come from. */
export class Layers {
  private constructor(readonly directory: string) {}

  static async make(directory?: string): Promise<Layers> {
    return new Layers(directory ?? (await temporaryDirectory()));
  }

  path(fileName: string): string {
    return join(this.directory, fileName);
  }

  /** An image that holds these blocks. Returns its state. */
  async image(fileName: string, disk: Disk, { state = newUuid(), sealed, manifest }: LayerOptions = {}): Promise<string> {
    const sizeBytes = disk.length * block;
    await using file = await NewFile.create(this.directory);
    await placeManifest(file.fd, sizeBytes, { ...baseManifest(), state, kind: 'image', sizeBytes, ...manifest });
    for (const [index, value] of disk.entries()) if (value) await writeAt(file.fd, index * block, bytesOf(value));
    await writeAt(file.fd, KiB, superblockBytes({ sizeBytes }));
    await file.publish(this.path(fileName));
    if (sealed) await this.seal(fileName);
    return state;
  }

  /** A delta that owns these blocks (0: a hole). Returns its state. */
  async delta(fileName: string, parent: string | undefined, blocks: Map<number, number>, options: LayerOptions = {}): Promise<string> {
    const { state = newUuid(), sizeBytes = diskBytes, sealed } = options;
    const manifest = { ...baseManifest(), state, ...(parent && { parent: { state: parent, hint: 'what.img' } }), ...options.manifest };
    await using delta = await createDelta(this.directory, { sizeBytes, manifest });
    await delta.file.publish(this.path(fileName));
    await this.write(fileName, blocks);
    if (sealed) await this.seal(fileName);
    return state;
  }

  /** Writes blocks into a delta, as its server would. */
  async write(fileName: string, blocks: Map<number, number>): Promise<void> {
    await using file = await openDelta(this.path(fileName), { write: true });
    for (const [index, value] of blocks) {
      if (value) await writeAt(file.fd, file.dataOffset + index * block, bytesOf(value));
      await setBit(file, index);
    }
  }

  async seal(fileName: string): Promise<void> {
    await using file = await openLayer(this.path(fileName), { write: true });
    await seal(file);
  }

  async manifest(fileName: string): Promise<Manifest> {
    await using file = await openLayer(this.path(fileName));
    return file.manifest as Manifest;
  }

  scan(...more: string[]): Promise<StateIndex> {
    return StateIndex.scan([this.directory, ...more], { containersDirectory: this.directory });
  }

  async chain(fileName: string, write = false, ...more: string[]): Promise<Chain> {
    return resolveChain(await openLayer(this.path(fileName), { write }), () => this.scan(...more), { write });
  }

  /** What the reader that shares no code with loopbox makes of a file. */
  async view(fileName: string): Promise<Disk> {
    const out = join(await temporaryDirectory(), 'disk');
    await shell('python3', join(import.meta.dirname, '../read-chain.py'), this.path(fileName), out);
    return diskOf(await readFile(out));
  }
}

function baseManifest(): Omit<Manifest, 'kind' | 'sizeBytes' | 'state'> {
  return {
    container: '11111111-2222-4333-8444-555555555555',
    name: 'web',
    created: '2025-01-02T03:04:05Z',
    config: { environment: {}, limits: {}, labels: {} },
  };
}

/** Of an image that is being folded into. */
export function folding(to: string, was: string, keep?: string, cursor = 0): LayerOptions {
  return { state: noState, manifest: { fold: { to, was, cursor, ...(keep && { keep }) } } };
}

function bytesOf(value: number): Buffer {
  const bytes = Buffer.alloc(block);
  for (let at = 2 * KiB; at < block; at += 4) bytes.writeUInt32LE(value, at);
  return bytes;
}

export function diskOf(bytes: Buffer): Disk {
  return Array.from({ length: bytes.length / block }, (_, index) => bytes.readUInt32LE((index + 1) * block - 4));
}

async function setBit(file: DeltaFile, index: number): Promise<void> {
  const position = file.mapOffset + Math.floor(index / 8);
  const [byte = 0] = await readAt(file.fd, position, 1);
  await writeAt(file.fd, position, Buffer.from([byte | (1 << (index % 8))]));
}

export function withBlocks(disk: Disk, blocks: Map<number, number>, sizeBytes = diskBytes): Disk {
  return emptyDisk(sizeBytes).map((_, index) => blocks.get(index) ?? disk[index] ?? 0);
}

export function namesOf(layers: readonly LayerFile[]): string[] {
  return layers.map(({ path }) => path.slice(path.lastIndexOf('/') + 1));
}
