import { describeFiles, type FileInfo } from './container-files';
import { checkContainerName } from './names';
import { fileHasNoSnapshots } from './snapshot-names';
import type { Store } from './store';
import { StoreFiles } from './store-files';
import { resolveTarget } from './target';

/** What `snapshot ls` tells of a snapshot. Times are ISO 8601. */
export interface SnapshotInfo {
  /** NAME@SNAP */
  name: string;
  container: string;
  snapshot: string;
  created: string | null;
  /** Null where the file does not say: it is called a snapshot and was not taken as one. */
  consistency: 'stopped' | 'application' | 'filesystem' | 'crash' | null;
  frozenMs?: number;
  description?: string;
  /** Exit codes of the hooks that ran. */
  hooks?: { pre?: number; post?: number };
  file: FileInfo;
}

export interface ContainerHistory {
  container: string;
  /** Oldest first. */
  snapshots: SnapshotInfo[];
  /** All files of the container, its present first. */
  files: FileInfo[];
}

/** The snapshots and files of containers, of all that have any unless names are given. ERR_LOOPBOX_NOT_FOUND for a name that is none. */
export async function listSnapshots(store: Store, names: string[] = []): Promise<ContainerHistory[]> {
  for (const name of names) {
    if (name.includes('/')) throw fileHasNoSnapshots(name);
    checkContainerName(name);
    if (store.fileNamesOf(name).length === 0) resolveTarget(store, name);
  }
  const files = await StoreFiles.scan(store);
  const histories = await Promise.all((names.length > 0 ? names : store.namesOfFiles()).map((name) => historyOf(files, name)));
  return names.length > 0 ? histories : histories.filter(({ snapshots, files }) => snapshots.length > 0 || files.length > 1);
}

async function historyOf(files: StoreFiles, container: string): Promise<ContainerHistory> {
  const infos = await describeFiles(files, container);
  const snapshots = infos.filter(({ role }) => role === 'snapshot').map((file) => describeSnapshot(container, file));
  return { container, snapshots, files: infos };
}

function describeSnapshot(container: string, file: FileInfo): SnapshotInfo {
  const { created = null, consistency = null, name: _, ...rest } = file.snapshot ?? {};
  return { name: file.name, container, snapshot: file.name.slice(container.length + 1), created, consistency, ...rest, file };
}
