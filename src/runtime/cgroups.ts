import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { isSystemError, LoopboxError } from '../errors';
import {
  killAtOnce,
  killProcess,
  listDirectories,
  listProcesses,
  makeCgroup,
  moveProcess,
  readProcesses,
  removeEmpty,
} from './cgroup-files';
import { type Hierarchy, readHierarchies } from './cgroup-hierarchies';

export { cgroupVersion } from './cgroup-hierarchies';

/**
 * Where the container itself lives, its monitor, and the storage server that its disk hangs on, apart so that the limits and the freezer of
 * the first never touch the others.
 */
export type Part = 'container' | 'monitor' | 'server';

const pauseMs = 5;
const patienceMs = 5000;
/** A storage server ends by itself behind the last user of its disk, once all is written. */
const serverPatienceMs = 60_000;

/**
 * A container's cgroups in every hierarchy, `name=systemd` and the version 2 tree included: nothing of a container may stay in its
 * caller's, or would go with the caller's session. `parent` is a path below each hierarchy's root (`loopbox/ID`).
 */
export class ContainerCgroups {
  readonly parent: string;
  readonly hierarchies: Hierarchy[];

  constructor(parent: string, hierarchies: Hierarchy[] = readHierarchies()) {
    this.parent = parent;
    this.hierarchies = hierarchies;
  }

  /** Makes the cgroups of a part. The container's own are the OCI runtime's to make. */
  create(part: Exclude<Part, 'container'> = 'monitor'): void {
    for (const hierarchy of this.hierarchies) makeCgroup(hierarchy, join(this.parent, part));
  }

  /** Moves a process with one thread, and whatever it forks from then on, to the monitor's cgroups. */
  moveToMonitor(pid: number): void {
    this.#move('monitor', pid);
  }

  /** The cgroup.procs of the monitor's cgroups, which are made where they are missing: for a process that moves itself. */
  monitorFiles(): string[] {
    const cgroups = this.hierarchies.map((hierarchy) => this.#path(hierarchy, 'monitor'));
    if (!cgroups.every((cgroup) => existsSync(cgroup))) this.create('monitor');
    return cgroups.map((cgroup) => join(cgroup, 'cgroup.procs'));
  }

  /** The same with the storage server's, which are made where they are missing. */
  moveToServer(pid: number): void {
    this.create('server');
    this.#move('server', pid);
  }

  #move(part: Part, pid: number): void {
    for (const hierarchy of this.hierarchies) moveProcess(this.#path(hierarchy, part), pid);
  }

  isInMonitor(pid: number): boolean {
    return this.hierarchies.some((hierarchy) => readProcesses(this.#path(hierarchy, 'monitor')).includes(pid));
  }

  /** cgroup.procs of the container's cgroup in a hierarchy that every OCI runtime uses. */
  get processesFile(): string {
    const find = (controller: string) => this.hierarchies.find(({ controllers }) => controllers.includes(controller));
    const hierarchy = find('memory') ?? find('pids') ?? find('devices') ?? this.hierarchies[0];
    if (!hierarchy) throw new LoopboxError('ERR_LOOPBOX_NOT_SUPPORTED', 'Cannot use cgroups: none are mounted');
    return join(this.#path(hierarchy, 'container'), 'cgroup.procs');
  }

  /** What is to be written where, to let a frozen container go on; undefined where nothing can freeze it. */
  get thawWrite(): { path: string; value: string } | undefined {
    const freezer = this.hierarchies.find(({ controllers }) => controllers.includes('freezer'));
    if (freezer) return { path: join(this.#path(freezer, 'container'), 'freezer.state'), value: 'THAWED' };
    const unified = this.hierarchies.find(({ version }) => version === 2);
    return unified && { path: join(this.#path(unified, 'container'), 'cgroup.freeze'), value: '0' };
  }

  /** Whether memory limits can include swap. To be asked after `create`: version 2 does not tell it at the root. */
  canLimitSwap(): boolean {
    return this.hierarchies.some(
      (hierarchy) =>
        existsSync(join(hierarchy.mountPoint, 'memory.memsw.limit_in_bytes')) ||
        existsSync(join(this.#path(hierarchy, 'monitor'), 'memory.swap.max')),
    );
  }

  /** Kills all processes of a part but the calling one, and returns when they are gone. */
  async kill(part: Part): Promise<void> {
    const paths = this.hierarchies.map((hierarchy) => this.#path(hierarchy, part));
    for (const deadline = Date.now() + patienceMs; ; await sleep(pauseMs)) {
      for (const path of paths) killAtOnce(path);
      const pids = new Set(paths.flatMap(listProcesses));
      if (pids.size === 0) return;
      for (const pid of pids) killProcess(pid);
      if (Date.now() > deadline) throw stillInUse(this.parent, `processes ${[...pids].join(', ')} do not die of SIGKILL`);
    }
  }

  /** Removes all cgroups of the container, and those above that are then empty. The calling process is moved out of them. */
  async remove(): Promise<void> {
    for (const hierarchy of this.hierarchies) {
      const monitor = this.#path(hierarchy, 'monitor');
      // The monitor's exit command runs in the monitor's cgroup.
      if (readProcesses(monitor).includes(process.pid)) moveProcess(hierarchy.mountPoint, process.pid);
      for (const part of ['container', 'monitor', 'server'] as const) {
        await removeTree(this.#path(hierarchy, part), part === 'server' ? serverPatienceMs : patienceMs);
      }
      // Also where the container has none of its own: who was about to make them may have been killed.
      for (let path = this.parent; path !== '.'; path = dirname(path)) {
        if (!removeEmpty(join(hierarchy.mountPoint, path))) break;
      }
    }
  }

  #path(hierarchy: Hierarchy, part: Part): string {
    return join(hierarchy.mountPoint, this.parent, part);
  }
}

/**
 * Takes a process, and whatever it forks from then on, out of its caller's cgroups, which go with the caller's session: to the root of each
 * hierarchy. Where the host shows only a part of a hierarchy whose root takes no process, it stays where it is.
 */
export function leaveCallersCgroups(pid: number): void {
  for (const { mountPoint } of readHierarchies()) {
    try {
      moveProcess(mountPoint, pid);
    } catch (error) {
      if (!isSystemError(error, 'EBUSY', 'EOPNOTSUPP')) throw error;
    }
  }
}

async function removeTree(cgroup: string, waitMs: number): Promise<void> {
  for (const child of listDirectories(cgroup)) await removeTree(join(cgroup, child), waitMs);
  // A process that has just ended may still count for a moment.
  for (const deadline = Date.now() + waitMs; !removeEmpty(cgroup); await sleep(pauseMs)) {
    if (Date.now() > deadline) throw stillInUse(cgroup, 'processes are still in it');
  }
}

function stillInUse(cgroup: string, state: string): LoopboxError {
  return new LoopboxError('ERR_LOOPBOX_IN_USE', `Cannot remove the cgroup "${cgroup}": ${state}`);
}
