import { readFile, readFileSync, writeFile } from 'node:fs';
import { join } from 'node:path';
import { type Hierarchy, readHierarchies } from './cgroup-hierarchies';

/**
 * Says that processes will be moved to other cgroups soon. The first such move after a while waits until all CPUs have taken notice (a
 * grace period of the kernel's RCU, some 10 ms), those right behind it do not: a move of the calling process to where it is already
 * lets that time pass beside other work. Returns at once; only speed depends on it.
 */
export function expectCgroupMoves(): void {
  const own = readFileSync('/proc/self/cgroup', 'utf8');
  for (const hierarchy of readHierarchies()) {
    const path = hasNoLimits(hierarchy) ? ownCgroup(hierarchy, own) : undefined;
    if (path === undefined) continue;
    moveIfThere(join(hierarchy.mountPoint, path, 'cgroup.procs'), String(process.pid));
    return;
  }
}

/** In a namespace, or below a bind mount, the path may lead to another cgroup. */
function moveIfThere(processesFile: string, pid: string): void {
  readFile(processesFile, 'utf8', (error, processes) => {
    if (!error && processes.split('\n').includes(pid)) writeFile(processesFile, pid, () => {});
  });
}

/** Where nothing is accounted that a move could change. */
function hasNoLimits({ version, controllers }: Hierarchy): boolean {
  return version === 2 || controllers.some((controller) => controller.startsWith('name='));
}

/** The cgroup in a hierarchy, below its root, that proc(5)'s `cgroup` tells. */
export function ownCgroup({ version, controllers }: Hierarchy, text: string): string | undefined {
  const wanted = version === 2 ? '' : controllers.join(',');
  for (const line of text.split('\n')) {
    const [, found, ...path] = line.split(':');
    if (found === wanted && path.length > 0) return path.join(':');
  }
  return undefined;
}
