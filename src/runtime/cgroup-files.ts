import { mkdirSync, readdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { isSystemError } from '../errors';
import type { Hierarchy } from './cgroup-hierarchies';

/** Makes a cgroup and those above it, again where another command removes an empty one in between. */
export function makeCgroup(hierarchy: Hierarchy, path: string): void {
  for (let attempt = 0; ; attempt++) {
    try {
      let current = hierarchy.mountPoint;
      for (const component of path.split('/')) {
        enableControllers(hierarchy, current);
        const parent = current;
        current = join(current, component);
        makeDirectory(current);
        if (hierarchy.controllers.includes('cpuset')) inheritCpuset(parent, current);
      }
      return;
    } catch (error) {
      if (attempt >= 100 || !isSystemError(error, 'ENOENT', 'ENODEV')) throw error;
    }
  }
}

function makeDirectory(path: string): void {
  try {
    mkdirSync(path, 0o755);
  } catch (error) {
    if (!isSystemError(error, 'EEXIST')) throw error;
  }
}

/** A cpuset of version 1 takes no process before it has CPUs and memory nodes. Who made it may have been killed before it gave it some. */
function inheritCpuset(parent: string, child: string): void {
  for (const file of ['cpuset.cpus', 'cpuset.mems']) {
    const isEmpty = readFileSync(join(child, file), 'utf8').trim() === '';
    if (isEmpty) writeFileSync(join(child, file), readFileSync(join(parent, file)));
  }
}

/** Version 2 gives a cgroup only the controllers that its parent hands on. One that can't be handed on is not missed before a limit needs it. */
function enableControllers(hierarchy: Hierarchy, path: string): void {
  if (hierarchy.version !== 2) return;
  const words = (file: string) => readFileSync(join(path, file), 'utf8').split(/\s+/).filter(Boolean);
  const enabled = words('cgroup.subtree_control');
  const available = words('cgroup.controllers');
  for (const controller of ['cpu', 'memory', 'pids'].filter((name) => available.includes(name) && !enabled.includes(name))) {
    try {
      writeFileSync(join(path, 'cgroup.subtree_control'), `+${controller}`);
    } catch (error) {
      if (!isSystemError(error, 'EBUSY', 'EINVAL', 'EOPNOTSUPP', 'ENOENT', 'EACCES', 'EROFS')) throw error;
    }
  }
}

/** Moves a process to a cgroup. */
export function moveProcess(cgroup: string, pid: number): void {
  writeFileSync(join(cgroup, 'cgroup.procs'), String(pid));
}

/** Kills all in a cgroup of version 2 in one step, where the kernel can. */
export function killAtOnce(cgroup: string): void {
  try {
    // The calling process may be in it.
    if (!readProcesses(cgroup).includes(process.pid)) writeFileSync(join(cgroup, 'cgroup.kill'), '1', { flag: 'r+' });
  } catch (error) {
    if (!isSystemError(error, 'ENOENT', 'ENODEV', 'EOPNOTSUPP')) throw error;
  }
}

/** Kills a process; done where there is none. */
export function killProcess(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch (error) {
    if (!isSystemError(error, 'ESRCH')) throw error;
  }
}

/** Processes of a cgroup and those below it, but for the calling one. */
export function listProcesses(cgroup: string): number[] {
  const below = listDirectories(cgroup).flatMap((child) => listProcesses(join(cgroup, child)));
  return [...readProcesses(cgroup), ...below].filter((pid) => pid > 0 && pid !== process.pid);
}

/** Processes of a cgroup; those of other process namespaces are 0. */
export function readProcesses(cgroup: string): number[] {
  try {
    return readFileSync(join(cgroup, 'cgroup.procs'), 'utf8').split('\n').filter(Boolean).map(Number);
  } catch (error) {
    if (isSystemError(error, 'ENOENT', 'ENODEV', 'EOPNOTSUPP')) return [];
    throw error;
  }
}

/** The cgroups right below one. */
export function listDirectories(path: string): string[] {
  try {
    return readdirSync(path, { withFileTypes: true })
      .filter((entry) => entry.isDirectory())
      .map((entry) => entry.name);
  } catch (error) {
    if (isSystemError(error, 'ENOENT', 'ENODEV')) return [];
    throw error;
  }
}

/** Removes a cgroup with no process and no cgroup in it. Returns false where there is one. */
export function removeEmpty(cgroup: string): boolean {
  try {
    rmdirSync(cgroup);
    return true;
  } catch (error) {
    if (isSystemError(error, 'ENOENT', 'ENODEV')) return true;
    if (isSystemError(error, 'EBUSY', 'ENOTEMPTY')) return false;
    throw error;
  }
}
