import { join } from 'node:path';
import { explain, explaining, LoopboxError } from '../errors';
import { formatFileName, freshNumber } from '../image/file-names';
import { renameDurably } from '../image/new-file';
import { type PendingFile, reclaim } from '../image/reclaim';
import type { IndexedFile } from '../image/state-index';
import type { Warn, WorkOptions } from '../progress';
import { mergeContext } from './merge';
import { unlinkUnneeded } from './reclaim';
import { withReserve } from './reserve';
import { findSnapshot } from './snapshot-files';
import { requireSnapshotArgument } from './snapshot-names';
import type { Store } from './store';
import { StoreFiles } from './store-files';
import { type Work, workOn } from './work';

export interface RemoveSnapshotOptions extends WorkOptions {
  warn: Warn;
  /** Returns when the space is free, as far as it can be; what it waits for is warned of. */
  wait: boolean;
}

/** Removes a snapshot: it is gone at once, its space comes back as far as nobody else needs it. */
export function removeSnapshot(store: Store, argument: string, options: RemoveSnapshotOptions): Promise<void> {
  return explaining(`remove the snapshot "${argument}"`, async () => {
    const { container, snapshot } = requireSnapshotArgument(argument);
    await using work = await workOn(store, container, 'remove snapshots of', options.signal);
    await withReserve(store, () => hide(store, container, findSnapshot(work.files, container, snapshot)));
    await giveBack(store, work, `"${argument}", which is removed`, options);
  });
}

/** Removes the oldest snapshots of a container, at most `count`, and returns their names, the oldest first. */
export function removeOldestSnapshots(store: Store, container: string, count: number, options: RemoveSnapshotOptions): Promise<string[]> {
  return explaining(`remove snapshots of "${container}"`, async () => {
    if (container.includes('@')) {
      throw new LoopboxError('ERR_LOOPBOX_USAGE', `Cannot remove the oldest of "${container}": it is not a container`, {
        hint: `loopbox snapshot rm --oldest ${count} ${container.replace(/@.*/, '')}`,
      });
    }
    await using work = await workOn(store, container, 'remove snapshots of', options.signal);
    const oldest = work.files.snapshots(container).slice(0, count);
    for (const file of oldest) await withReserve(store, () => hide(store, container, file));
    await giveBack(store, work, `snapshots of "${container}", which are removed`, options);
    return oldest.map((file) => work.files.nameOf(file));
  });
}

/** What nobody stands on goes at once; the rest has to be merged. A failure says that the snapshots are removed all the same. */
async function giveBack(store: Store, work: Work, ofWhat: string, options: RemoveSnapshotOptions): Promise<void> {
  const action = `give back the space of ${ofWhat}`;
  try {
    await withReserve(store, async () => unlinkUnneeded(store, work.name, await StoreFiles.scan(store)));
    if (!options.wait) return;
    for (const { fileName, reason } of await merge(store, work, options)) {
      options.warn(`the space of "${fileName}" is not free yet: ${reason}`);
    }
  } catch (error) {
    if (!(error instanceof LoopboxError)) throw explain(error, action);
    const { code, message, hint, path } = error;
    throw new LoopboxError(code, `Cannot ${action}: ${message}`, { hint, path, cause: error });
  }
}

/** Merges what has no name any more, with the reserve where that wants space. Returns what waits all the same. */
async function merge(store: Store, work: Work, options: RemoveSnapshotOptions): Promise<PendingFile[]> {
  let pending: PendingFile[] = [];
  try {
    await withReserve(store, async () => {
      pending = [];
      pending = await reclaim(mergeContext(store, work, options));
      const full = pending.find(({ isFull }) => isFull);
      if (full) throw new LoopboxError('ERR_LOOPBOX_NO_SPACE', full.reason);
    });
  } catch (error) {
    if (!pending.some(({ isFull }) => isFull)) throw error;
  }
  return pending;
}

/** Takes a snapshot's name away, durably. What others stand on stays, without one. */
async function hide(store: Store, name: string, { path, manifest }: IndexedFile): Promise<void> {
  const number = freshNumber(store.fileNamesOf(name), name);
  const extension = manifest.kind === 'image' ? 'img' : 'delta';
  await renameDurably(path, join(store.containersDirectory, formatFileName({ role: 'nameless', name, number, extension })));
}
