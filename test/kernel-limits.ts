import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { isSystemError } from '../src/errors';
import { readHierarchies } from '../src/runtime/cgroup-hierarchies';

/** What the kernel holds a process to: the limits of its cgroups, whichever version they are. What is missing is not limited. */
export function kernelLimits(pid: number): { memoryBytes?: number; swapBytes?: number; cpus?: number; pids?: number } {
  const memoryBytes = valueOf(pid, 'memory', 'memory.limit_in_bytes', 'memory.max');
  const swapBytes = swapOf(pid, memoryBytes);
  const cpus = cpusOf(pid);
  const pids = valueOf(pid, 'pids', 'pids.max', 'pids.max');
  return {
    ...(memoryBytes && { memoryBytes }),
    ...(swapBytes !== undefined && { swapBytes }),
    ...(cpus && { cpus }),
    ...(pids && { pids }),
  };
}

/** CPU seconds that the cgroup of a process has used. */
export function cpuSecondsOf(pid: number): number {
  const nanoseconds = read(pid, 'cpuacct', 'cpuacct.usage', 'cpu.stat');
  const microseconds = /^usage_usec (\d+)$/m.exec(nanoseconds ?? '')?.[1];
  return microseconds === undefined ? Number(nanoseconds) / 1e9 : Number(microseconds) / 1e6;
}

function cpusOf(pid: number): number | undefined {
  const max = read(pid, 'cpu', undefined, 'cpu.max')?.split(' ');
  const quota = max ? Number(max[0]) : Number(read(pid, 'cpu', 'cpu.cfs_quota_us', undefined));
  const period = Number(max ? max[1] : read(pid, 'cpu', 'cpu.cfs_period_us', undefined));
  return quota > 0 ? quota / period : undefined;
}

/** Swap that it may use beyond its memory; version 1 counts both together. */
function swapOf(pid: number, memoryBytes = 0): number | undefined {
  const together = valueOf(pid, 'memory', 'memory.memsw.limit_in_bytes', undefined);
  return together === undefined ? valueOf(pid, 'memory', undefined, 'memory.swap.max') : together - memoryBytes;
}

function valueOf(pid: number, controller: string, file1: string | undefined, file2: string | undefined): number | undefined {
  const text = read(pid, controller, file1, file2);
  const value = text === undefined || text === 'max' ? Number.NaN : Number(text);
  // Without a limit version 1 tells the largest number of pages.
  return value < 2 ** 62 ? value : undefined;
}

/** A file of the process's cgroup that has the controller: by its name in version 1 or in version 2. */
function read(pid: number, controller: string, file1: string | undefined, file2: string | undefined): string | undefined {
  const hierarchies = readHierarchies();
  const hierarchy =
    hierarchies.find(({ controllers }) => controllers.includes(controller)) ?? hierarchies.find(({ version }) => version === 2);
  const file = hierarchy?.version === 1 ? file1 : file2;
  if (!hierarchy || file === undefined) return undefined;
  const key = hierarchy.version === 1 ? controller : '';
  const line = readFileSync(`/proc/${pid}/cgroup`, 'utf8')
    .split('\n')
    .find((line) => line.split(':')[1]?.split(',').includes(key));
  try {
    return readFileSync(join(hierarchy.mountPoint, line?.split(':').slice(2).join(':') ?? '', file), 'utf8').trim();
  } catch (error) {
    if (isSystemError(error, 'ENOENT')) return undefined;
    throw error;
  }
}
