import { release } from 'node:os';
import { type LoopLimits, loopLimits } from '../loop/list-loops';
import { packageVersion } from '../package';
import { cgroupVersion } from '../runtime/cgroups';
import { listRuntimes } from '../runtime/driver';
import { type AttachDefault, attachDefault } from './attach-choice';
import { canReflink } from './reflink';
import type { Store } from './store';

export interface HostInfo {
  version: string;
  kernel: string;
  root: string;
  runRoot: string;
  /** Whether files under the root can share blocks. */
  reflink: boolean;
  /** What `auto` means for how disks are attached. */
  autoAttach: AttachDefault;
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
    autoAttach: await attachDefault(store),
    cgroup: cgroupVersion(),
    runtimes: await listRuntimes(store.runtime),
    loops: loopLimits(),
  };
}
