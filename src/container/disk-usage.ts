import { statfs } from 'node:fs/promises';
import { isSystemError, LoopboxError } from '../errors';
import { readAt } from '../image/file-io';
import { type LayerFile, openLayer } from '../image/layer-file';
import { parseSuperblock, type Superblock, superblockLength, superblockOffset } from '../image/superblock';
import { inspectRun } from '../runtime/status';
import { describeFiles, type FileInfo } from './container-files';
import { openPresent } from './open-present';
import { ownBytes } from './own-bytes';
import { reservedBytes } from './reserve';
import type { Store } from './store';
import { StoreFiles } from './store-files';
import { namedTarget, type Target } from './target';

export interface ContainerUsage {
  name: string;
  sizeBytes: number;
  /** Used inside, as the container's own df tells. */
  usedBytes: number;
  /** Bytes on the host that are its own, but for its snapshots'. */
  ownBytes: number;
  /** Bytes on the host that its snapshots pin. Of a container. */
  snapshotBytes?: number;
  /** What waits to be done with its files: blocks to be merged, or files that nobody needs any more. */
  pending?: 'fold' | 'reclaim';
  problem?: string;
}

export interface StoreUsage {
  containers: ContainerUsage[];
  templates: ContainerUsage[];
  store: {
    path: string;
    sizeBytes: number;
    freeBytes: number;
    /** What all images may grow to. */
    promisedBytes: number;
    /** What the store keeps for verbs that free space. */
    reservedBytes: number;
  };
}

export async function diskUsage(store: Store): Promise<StoreUsage> {
  store.prepare();
  const files = await StoreFiles.scan(store);
  const containers = await Promise.all(store.namesOfFiles().map((name) => usageOfContainer(store, name, files)));
  const templates = await Promise.all(store.templateNames().map((name) => usageOfTemplate(store, name)));
  const host = await statfs(store.containersDirectory);
  return {
    containers,
    templates,
    store: {
      path: store.root,
      sizeBytes: host.blocks * host.bsize,
      freeBytes: host.bavail * host.bsize,
      promisedBytes: [...containers, ...templates].reduce((sum, usage) => sum + usage.sizeBytes, 0),
      reservedBytes: reservedBytes(store),
    },
  };
}

async function usageOfContainer(store: Store, name: string, files: StoreFiles): Promise<ContainerUsage> {
  const target = namedTarget(store, name);
  const past = await pastOf(files, name);
  return usageOf(name, () => openPresent(store, target), { past, directory: target.directory });
}

function usageOfTemplate(store: Store, name: string): Promise<ContainerUsage> {
  return usageOf(name, () => openLayer(store.templatePath(name), { label: name }));
}

async function usageOf(
  name: string,
  open: () => Promise<LayerFile>,
  { past, directory }: { past?: Partial<ContainerUsage>; directory?: Target['directory'] } = {},
): Promise<ContainerUsage> {
  try {
    await using file = await open();
    const live = directory && (await usedWhileRunning(directory));
    const { sizeBytes = 0, freeBytes = 0, overheadBytes = 0 } = (await superblockOf(file)) ?? {};
    return {
      name,
      sizeBytes: file.sizeBytes,
      usedBytes: live ?? Math.max(0, sizeBytes - freeBytes - overheadBytes),
      ownBytes: await ownBytes(file.fd),
      ...past,
    };
  } catch (error) {
    if (!(error instanceof LoopboxError)) throw error;
    return { name, sizeBytes: 0, usedBytes: 0, ownBytes: 0, ...past, problem: error.message };
  }
}

/** What all files of a container take, where there are several. */
async function pastOf(files: StoreFiles, name: string) {
  if (files.ofContainer(name).length < 2) return { snapshotBytes: 0 };
  const infos = await describeFiles(files, name);
  const sum = (some: FileInfo[]) => some.reduce((bytes, info) => bytes + info.ownBytes, 0);
  const [pending] = infos.flatMap((info) => info.pending ?? []);
  return {
    ownBytes: sum(infos.filter(({ role }) => role !== 'snapshot')),
    snapshotBytes: sum(infos.filter(({ role }) => role === 'snapshot')),
    ...(pending && { pending }),
  };
}

/** A top owns its first block, and with it the superblock. */
async function superblockOf(file: LayerFile): Promise<Superblock | undefined> {
  if (file.kind === 'image') return file.superblock;
  return parseSuperblock(await readAt(file.fd, file.dataOffset + superblockOffset, superblockLength));
}

/** The superblock on disk is behind while the file system is mounted; the container's root is asked instead. */
async function usedWhileRunning(directory: Target['directory']): Promise<number | undefined> {
  const state = await inspectRun(directory);
  if (!state.running) return undefined;
  try {
    const inside = await statfs(`/proc/${state.record.pid}/root`);
    return (inside.blocks - inside.bfree) * inside.bsize;
  } catch (error) {
    if (isSystemError(error, 'ENOENT', 'ESRCH')) return undefined;
    throw error;
  }
}
