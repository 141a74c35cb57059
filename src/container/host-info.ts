import { release } from 'node:os';
import { isSystemError } from '../errors';
import { NewFile } from '../image/new-file';
import { type LoopLimits, loopLimits } from '../loop/list-loops';
import { native } from '../native';
import { packageVersion } from '../package';
import { cgroupVersion } from '../runtime/cgroups';
import { listRuntimes } from '../runtime/driver';
import type { Store } from './store';

export interface HostInfo {
  version: string;
  kernel: string;
  root: string;
  runRoot: string;
  /** Whether files under the root can share blocks. */
  reflink: boolean;
  cgroup: 'v1' | 'hybrid' | 'v2';
  runtimes: { name: string; path: string; version: string; default: boolean }[];
  loops: LoopLimits;
}

/** What this host offers to containers. */
export async function hostInfo(store: Store): Promise<HostInfo> {
  store.prepare();
  return {
    version: packageVersion(),
    kernel: release(),
    root: store.root,
    runRoot: store.runRoot,
    reflink: await canReflink(store.containersDirectory),
    cgroup: cgroupVersion(),
    runtimes: await listRuntimes(store.runtime),
    loops: loopLimits(),
  };
}

/** Tried, not guessed from the file system's name: XFS and btrfs can be made without it. */
async function canReflink(directory: string): Promise<boolean> {
  await using from = await NewFile.create(directory);
  await using to = await NewFile.create(directory);
  try {
    await native().reflink(to.fd, from.fd);
    return true;
  } catch (error) {
    if (isSystemError(error, 'EOPNOTSUPP', 'EXDEV', 'EINVAL', 'ENOTTY')) return false;
    throw error;
  }
}
