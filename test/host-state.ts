import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { attachedLoops } from './loop-devices';

/** What every temporary file and directory of the tests is called at the start. */
export const temporaryPrefix = 'loopbox-';

/** One line for each thing on this host that a container, or a test, could leave behind. */
export type HostState = ReadonlySet<string>;

/** Loop devices, mounts, processes, cgroups, network namespaces, a setting of the kernel, and files in /run, /var/log and the temporary directory. */
export function snapshotOfLeftovers(): HostState {
  return new Set([
    ...attachedLoops().map(({ index, diskSequence, backingFile }) => `loop device ${index} (use ${diskSequence}) on ${backingFile}`),
    ...mounts(),
    ...processes(),
    ...cgroups(),
    ...names('/run/netns').map((name) => `network namespace ${name}`),
    ...(text('/sys/kernel/rcu_expedited')?.startsWith('1') ? ['expedited grace periods of the kernel'] : []),
    ...tree('/run/loopbox'),
    ...tree('/var/log/loopbox'),
    ...(process.env.KEEP_TMP ? [] : names(tmpdir()).filter((name) => name.startsWith(temporaryPrefix))).map(
      (name) => `temporary file ${name}`,
    ),
  ]);
}

/** What has come since `before`; empty as soon as nothing has, at the latest after `withinMs` (the kernel clears up behind a process). */
export async function leftSince(before: HostState, withinMs = 20_000): Promise<string[]> {
  const deadline = Date.now() + withinMs;
  for (;;) {
    const left = [...snapshotOfLeftovers()].filter((thing) => !before.has(thing));
    if (left.length === 0 || Date.now() >= deadline) return left.sort();
    await sleep(50);
  }
}

/** Throws with a list where something has come since `before` and does not go away. */
export async function expectNothingLeft(before: HostState, withinMs?: number): Promise<void> {
  const left = await leftSince(before, withinMs);
  if (left.length > 0) throw new Error(`Left behind:\n${left.map((thing) => `  ${thing}`).join('\n')}`);
}

function mounts(): string[] {
  return lines('/proc/1/mountinfo').map((line) => {
    const [id, , device, , target] = line.split(' ');
    return `mount ${id} of ${device} at ${target}`;
  });
}

function processes(): string[] {
  const knownNetworks = new Set([networkOf('1'), networkOf('self')]);
  return names('/proc')
    .filter((name) => /^\d+$/.test(name))
    .flatMap((pid) => {
      const stat = text(`/proc/${pid}/stat`);
      if (stat === undefined) return [];
      const name = stat.slice(stat.indexOf('(') + 1, stat.lastIndexOf(')'));
      const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
      const [state, startTime] = [fields[0], fields[19]];
      const network = networkOf(pid);
      const isOurs =
        /^(conmon|runc|crun|loopbox)/.test(name) ||
        /\bbin\/loopbox\0/.test(text(`/proc/${pid}/cmdline`) ?? '') ||
        lines(`/proc/${pid}/cgroup`).some((line) => /\/loopbox(\.slice)?\//.test(line)) ||
        (network !== undefined && !knownNetworks.has(network));
      return isOurs && state !== 'Z' ? [`process ${pid} (${name}, started at ${startTime})`] : [];
    });
}

/** Every cgroup below one named loopbox, in every hierarchy. An empty `loopbox` of its own goes with the next command. */
function cgroups(): string[] {
  const hierarchies = lines('/proc/self/mountinfo').flatMap((line) => {
    const [before, after] = line.split(' - ');
    return /^cgroup2? /.test(after ?? '') ? [before?.split(' ')[4] ?? ''] : [];
  });
  return hierarchies
    .flatMap((hierarchy) => directories(hierarchy, 8))
    .flatMap((path) => (/\/loopbox(\.slice)?\/./.test(path) ? [`cgroup ${path}`] : []));
}

function networkOf(pid: string): string | undefined {
  try {
    return readlinkSync(`/proc/${pid}/ns/net`);
  } catch {
    return undefined;
  }
}

function directories(path: string, depth: number): string[] {
  if (depth === 0) return [];
  return entries(path)
    .filter((entry) => entry.isDirectory())
    .flatMap((entry) => [join(path, entry.name), ...directories(join(path, entry.name), depth - 1)]);
}

function tree(path: string): string[] {
  return entries(path).flatMap((entry) => {
    const child = join(path, entry.name);
    return [`file ${child}`, ...(entry.isDirectory() ? tree(child) : [])];
  });
}

function entries(path: string) {
  try {
    return readdirSync(path, { withFileTypes: true });
  } catch {
    return [];
  }
}

function names(path: string): string[] {
  return entries(path).map((entry) => entry.name);
}

function text(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8').trimEnd();
  } catch {
    return undefined;
  }
}

function lines(path: string): string[] {
  return text(path)?.split('\n') ?? [];
}
