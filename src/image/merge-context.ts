import { setTimeout as sleep } from 'node:timers/promises';
import { LoopboxError } from '../errors';
import { native } from '../native';
import type { WorkOptions } from '../progress';
import { MiB } from '../units';
import { judgeDelta } from './delta-file';
import { closeFile, fileStatus } from './file-io';
import { parseFileName } from './file-names';
import { judgeImage } from './image-file';
import { type LayerFile, openLayer } from './layer-file';
import type { LiveChain, LiveLayer } from './live-chain';
import { type IndexedFile, isSameFile, StateIndex } from './state-index';

/** Where a merge works, and what it asks of its caller, who holds the container's verb lock. */
export interface MergeContext extends WorkOptions {
  /** The container's, in the store's directory of containers. */
  name: string;
  containersDirectory: string;
  /** Where others may lie that stand on the container's states. */
  templatesDirectory: string;
  /** The store's structure lock, exclusive. Throws ERR_LOOPBOX_LOCKED. */
  takeStructureLock: () => Promise<AsyncDisposable>;
  /** The server of the container, if it runs; asked for anew with each batch. */
  live: () => Promise<LiveChain | undefined>;
  /** Lets other commands have the verb lock for a moment; after it all is read anew. */
  pause: () => Promise<void>;
  /** About how much is moved between two pauses; 64 MiB unless told. */
  batchBytes?: number;
}

/**
 * What became of a batch: `next` is the block that the following one begins with; `waits` says what is in the way of going on, `isFull` that it is
 * the want of space.
 */
export type BatchOutcome = { next: number } | { waits: string; isFull?: boolean } | 'done';

export function batchBytesOf({ batchBytes }: MergeContext): number {
  return batchBytes ?? 64 * MiB;
}

/** The files of the container alone. Throws where one can't be read. */
export async function scanOwn({ containersDirectory, name }: MergeContext): Promise<StateIndex> {
  const index = await StateIndex.scan([containersDirectory], {
    containersDirectory,
    only: (fileName) => parseFileName(fileName)?.name === name,
  });
  index.requireRead();
  return index;
}

/** All files that may have to do with the container's states. Throws where one can't be read: what is to be done follows from all of them. */
export async function scanAll({ containersDirectory, templatesDirectory, signal }: MergeContext): Promise<StateIndex> {
  const index = await StateIndex.scan([containersDirectory, templatesDirectory], { containersDirectory, signal });
  index.requireRead();
  return index;
}

export function isOwn({ containersDirectory, name }: MergeContext, file: IndexedFile): boolean {
  return file.directory === containersDirectory && file.parsed?.name === name;
}

/** A file that has no name that a user knows. */
export function isNameless({ parsed }: Pick<IndexedFile, 'parsed'>): boolean {
  return parsed?.role === 'nameless' || parsed?.role === 'fold';
}

/** Opens a file of the container for writing, as it was found. IN_USE where it was replaced. */
export async function openOwn(file: IndexedFile): Promise<LayerFile> {
  const opened = await openLayer(file.path, { write: true, noFollow: true, label: file.fileName });
  if (isSameFile(opened, file)) return opened;
  await opened.close();
  throw new LoopboxError('ERR_LOOPBOX_IN_USE', `Cannot merge "${file.fileName}": it was replaced meanwhile`, { path: file.path });
}

export async function linksOf(fd: number): Promise<number> {
  return (await fileStatus(fd)).nlink;
}

/** The layers of a running container's server, for one batch. */
export class LiveLayers implements AsyncDisposable {
  private constructor(
    readonly server: LiveChain | undefined,
    private readonly layers: LiveLayer[],
  ) {}

  static async of(context: MergeContext): Promise<LiveLayers> {
    const server = await context.live();
    return new LiveLayers(server, server ? await server.layers() : []);
  }

  find(file: IndexedFile): LiveLayer | undefined {
    return this.layers.find((layer) => isSameFile(layer, file));
  }

  get top(): LiveLayer | undefined {
    return this.layers.at(-1);
  }

  isTop(file: IndexedFile): boolean {
    return this.top !== undefined && this.top === this.find(file);
  }

  /** Opens a file by the server's own description, where it has it open: only so can a lease be had. */
  async open(file: IndexedFile): Promise<LayerFile> {
    const index = this.layers.findIndex((layer) => isSameFile(layer, file));
    const layer = this.layers[index];
    if (!layer) return openOwn(file);
    // Manifests are not written by whole pages.
    native().useBufferedIo(layer.fd);
    const { nlink, size } = await fileStatus(layer.fd);
    const { path, device, inode, fileName } = file;
    const regular = { fd: layer.fd, path, label: fileName, device, inode, links: nlink, fileSizeBytes: size };
    // The descriptor is the file's to close from here on.
    const opened = file.manifest.kind === 'image' ? await judgeImage(regular) : await judgeDelta(regular);
    if (!opened) throw new LoopboxError('ERR_LOOPBOX_CORRUPT', `Cannot merge "${fileName}": it has lost its manifest`, { path });
    this.layers[index] = { ...layer, fd: -1 };
    return opened;
  }

  /** Tells the server, if it has both, that `into` has all blocks that `source` owns below `block`. */
  async moved(source: IndexedFile, into: IndexedFile, block: number): Promise<void> {
    const [from, to] = [this.find(source), this.find(into)];
    if (from && to) await this.server?.movedTo(from.slot, to.slot, block);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const { fd } of this.layers) if (fd >= 0) await closeFile(fd);
  }
}

/** Commands that look at all manifests have a file open for a moment. */
const leasePatienceMs = 500;

/** A write lease: while it is held, nobody else has the file open. Who tries to open it waits, or is refused. */
export class Lease implements Disposable {
  private constructor(private readonly fd: number) {}

  /** Undefined where somebody has the file open, or the file system knows no leases. */
  static async take(fd: number, patienceMs = leasePatienceMs): Promise<Lease | undefined> {
    for (const deadline = Date.now() + patienceMs; ; await sleep(20)) {
      if (native().tryWriteLease(fd)) return new Lease(fd);
      if (Date.now() >= deadline) return undefined;
    }
  }

  /** Whether nobody waits for its end. */
  isWhole(): boolean {
    return native().hasWriteLease(this.fd);
  }

  [Symbol.dispose](): void {
    native().dropLease(this.fd);
  }
}
