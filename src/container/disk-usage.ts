import { statfs } from 'node:fs/promises';
import { isSystemError, LoopboxError } from '../errors';
import { openImage } from '../image/image-file';
import { inspectRun } from '../runtime/status';
import { ownBytes } from './own-bytes';
import { reservedBytes } from './reserve';
import type { Store } from './store';
import { namedTarget, type Target } from './target';

export interface ContainerUsage {
  name: string;
  sizeBytes: number;
  /** Used inside, as the container's own df tells. */
  usedBytes: number;
  ownBytes: number;
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
  const containers = await Promise.all(store.containerNames().map((name) => usageOf(namedTarget(store, name))));
  const templates = await Promise.all(store.templateNames().map((name) => usageOf({ label: name, path: store.templatePath(name) })));
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

async function usageOf(target: Pick<Target, 'label' | 'path'> & { directory?: Target['directory'] }): Promise<ContainerUsage> {
  try {
    await using image = await openImage(target.path, { label: target.label });
    const live = target.directory && (await usedWhileRunning(target.directory));
    const { sizeBytes, freeBytes, overheadBytes } = image.superblock;
    return {
      name: target.label,
      sizeBytes: image.sizeBytes,
      usedBytes: live ?? Math.max(0, sizeBytes - freeBytes - overheadBytes),
      ownBytes: await ownBytes(image.fd),
    };
  } catch (error) {
    if (!(error instanceof LoopboxError)) throw error;
    return { name: target.label, sizeBytes: 0, usedBytes: 0, ownBytes: 0, problem: error.message };
  }
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
