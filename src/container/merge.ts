import { fstatSync } from 'node:fs';
import { closeFile } from '../image/file-io';
import type { LiveChain } from '../image/live-chain';
import type { MergeContext } from '../image/merge-context';
import { StackControl } from '../loop/stack-control';
import { native } from '../native';
import type { WorkOptions } from '../progress';
import { inspectRun } from '../runtime/status';
import { structureWaitMs, takeStructureLock } from './locks';
import { requireStopped } from './require-stopped';
import type { Store } from './store';
import type { Target } from './target';
import type { Work } from './work';

/**
 * What merges of a container's files need of its store. `verb` is that of one for stopped containers: a start in between ends it (ERR_LOOPBOX_WRONG_STATE).
 * `pauseMs`: as of `Work`.
 */
export function mergeContext(store: Store, work: Work, options: WorkOptions, verb?: string, pauseMs?: number): MergeContext {
  return {
    ...options,
    name: work.name,
    containersDirectory: store.containersDirectory,
    templatesDirectory: store.templatesDirectory,
    takeStructureLock: () => takeStructureLock(store, 'exclusive', structureWaitMs, options.signal),
    live: () => liveChain(work.target),
    pause: async () => {
      await work.pause(pauseMs);
      if (verb !== undefined) await requireStopped(store, work.target, verb);
    },
  };
}

/**
 * Drops what leases a killed merge has left on the open file descriptions of a running container's server, which outlive it. For the holder
 * of the verb lock: nobody else has any.
 */
export async function dropLeases(target: Target): Promise<void> {
  for (const { fd } of (await (await liveChain(target))?.layers()) ?? []) {
    native().dropLease(fd);
    await closeFile(fd);
  }
}

/** The storage server of a container that runs with one. */
async function liveChain({ directory, label }: Target): Promise<LiveChain | undefined> {
  const { running, record } = await inspectRun(directory);
  if (!running || !record.server) return undefined;
  const control = new StackControl(directory.controlPath, label);
  return {
    layers: async () =>
      (await control.layers()).map(({ slot, fd }) => {
        const { dev, ino } = fstatSync(fd, { bigint: true });
        return { slot, fd, device: dev, inode: ino };
      }),
    absorbIntoTop: (slot, fromBlock) => control.absorb(slot, fromBlock),
    movedTo: (slot, into, block) => control.moved(slot, into, block),
    drop: (slot) => control.drop(slot),
  };
}
