import { join } from 'node:path';
import { LoopboxError } from '../errors';
import { formatFileName, type LayerExtension } from '../image/file-names';
import type { LayerFile } from '../image/layer-file';
import type { Manifest } from '../image/manifest';
import type { IndexedFile } from '../image/state-index';
import type { Store } from './store';
import type { StoreFiles } from './store-files';
import type { Target } from './target';

/** Throws ERR_LOOPBOX_NOT_SUPPORTED for a foreign image: there is no place for what a snapshot has to say. */
export function requireManifest({ manifest, label, path }: LayerFile): Manifest {
  if (manifest) return manifest;
  throw new LoopboxError('ERR_LOOPBOX_NOT_SUPPORTED', `Cannot take a snapshot of "${label}", nor link to it: its file has no manifest`, {
    hint: `loopbox import ${path} NEW-NAME`,
    path,
  });
}

/** Where NAME@SNAP lies, or will lie. */
export function snapshotPath(store: Store, name: string, snapshot: string, extension: LayerExtension): string {
  return join(store.containersDirectory, formatFileName({ role: 'snapshot', name, snapshot, extension }));
}

/** The names of a container's snapshots, those that can't be read included. */
export function snapshotNames(files: StoreFiles, name: string): Set<string> {
  const all = [...files.index.files, ...files.index.damaged];
  return new Set(all.flatMap(({ parsed }) => (parsed?.role === 'snapshot' && parsed.name === name ? [parsed.snapshot] : [])));
}

/** The file of a snapshot. Throws ERR_LOOPBOX_NOT_FOUND, or what is wrong with one that can't be read. */
export function findSnapshot(files: StoreFiles, name: string, snapshot: string): IndexedFile {
  const found = files.snapshots(name).find(({ parsed }) => parsed?.role === 'snapshot' && parsed.snapshot === snapshot);
  if (found) return found;
  const damaged = files.index.damaged.find(
    ({ parsed }) => parsed?.role === 'snapshot' && parsed.name === name && parsed.snapshot === snapshot,
  );
  if (damaged) throw damaged.error;
  throw new LoopboxError('ERR_LOOPBOX_NOT_FOUND', `Cannot find the snapshot "${name}@${snapshot}": it does not exist`, {
    hint: `loopbox snapshot ls ${name}`,
  });
}

/** Throws ERR_LOOPBOX_EXISTS. */
export function requireFreeSnapshotName(files: StoreFiles, name: string, snapshot: string): void {
  if (!snapshotNames(files, name).has(snapshot)) return;
  throw new LoopboxError('ERR_LOOPBOX_EXISTS', `Cannot use the name "${name}@${snapshot}": a snapshot of this name exists`, {
    hint: `choose another name, or: loopbox snapshot rm ${name}@${snapshot}`,
  });
}

/** The error where the file that bears a container's name is not the one that it writes to. */
export function runsElsewhere({ label, path }: Target): LoopboxError {
  return new LoopboxError('ERR_LOOPBOX_IN_USE', `Cannot take a snapshot of "${label}": it runs from another file than "${path}"`, { path });
}
