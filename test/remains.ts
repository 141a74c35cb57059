import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { readHierarchies } from '../src/runtime/cgroup-hierarchies';
import { attachedLoops } from './loop-devices';
import type { TestStore } from './store';

/** What the kernel holds for the runs of one store: loop devices and processes, one line for each. Other stores may be busy meanwhile. */
export function heldByKernel(store: TestStore): string[] {
  const loops = attachedLoops().filter(({ backingFile }) => backingFile.startsWith(`${store.root}/`));
  return [
    ...loops.map(({ index, backingFile }) => `loop device ${index} on ${backingFile}`),
    ...processesOf(store).map(({ pid, name }) => `process ${pid} (${name})`),
  ];
}

/** What a run of one store keeps that has no owner in the kernel: cgroups and run directories, but for the record of how it ended. */
export function keptOnHost(store: TestStore): string[] {
  const cgroups = readHierarchies().map(({ mountPoint }) => join(mountPoint, 'loopbox', store.component));
  return [
    ...cgroups.flatMap((path) => [path, ...directoriesBelow(path)]).filter((path) => existsSync(path)),
    ...filesBelow(join(store.runRoot, store.component)).filter((path) => !/\/(last\.json|watch)$/.test(path)),
  ];
}

export interface StoreProcess {
  pid: number;
  /** comm: the first 15 bytes of the program's name. */
  name: string;
  /** Whether it is in the container's own cgroup: its first process, or one below that. */
  inContainer: boolean;
}

/** The processes of one store's runs: by their arguments or their cgroup. Not its command line, which is the caller's. `except` are not looked at. */
export function processesOf(store: TestStore, except: ReadonlySet<string> = new Set()): StoreProcess[] {
  return readdirSync('/proc')
    .filter((entry) => /^\d+$/.test(entry) && !except.has(entry))
    .flatMap((pid) => {
      const cgroup = text(`/proc/${pid}/cgroup`);
      const isOurs = cgroup.includes(`/${store.component}/`) || text(`/proc/${pid}/cmdline`).includes(`${store.runRoot}/`);
      const [, name = '', state = ''] = /\((.*)\) (.)/s.exec(text(`/proc/${pid}/stat`)) ?? [];
      if (!isOurs || !state || 'ZX'.includes(state)) return [];
      return [{ pid: Number(pid), name, inContainer: new RegExp(`/${store.component}/[^/]+/container`).test(cgroup) }];
    });
}

function directoriesBelow(path: string): string[] {
  return list(path)
    .filter((entry) => entry.isDirectory())
    .flatMap((entry) => [join(path, entry.name), ...directoriesBelow(join(path, entry.name))]);
}

function filesBelow(path: string): string[] {
  return list(path).flatMap((entry) => (entry.isDirectory() ? filesBelow(join(path, entry.name)) : [join(path, entry.name)]));
}

function list(path: string) {
  try {
    return readdirSync(path, { withFileTypes: true });
  } catch {
    return [];
  }
}

/** Empty where the process has gone meanwhile. */
function text(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}
