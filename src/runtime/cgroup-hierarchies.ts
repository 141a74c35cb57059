import { readFileSync } from 'node:fs';

/** A mounted cgroup hierarchy. */
export interface Hierarchy {
  mountPoint: string;
  version: 1 | 2;
  /** Of version 1: its controllers, or `name=…`. */
  controllers: string[];
}

/** The cgroup hierarchies in proc(5)'s `mountinfo`, each once, however often it is mounted. */
export function parseHierarchies(mountinfo: string): Hierarchy[] {
  const byDevice = new Map<string, Hierarchy>();
  for (const line of mountinfo.split('\n')) {
    const [mount = '', type = ''] = line.split(' - ');
    const [kind, , superOptions = ''] = type.split(' ');
    if (kind !== 'cgroup' && kind !== 'cgroup2') continue;
    const [, , device = '', , path = ''] = mount.split(' ');
    const hierarchy: Hierarchy = {
      mountPoint: path.replace(/\\(\d{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8))),
      version: kind === 'cgroup2' ? 2 : 1,
      controllers: kind === 'cgroup2' ? [] : superOptions.split(',').filter(isController),
    };
    const known = byDevice.get(device);
    if (!known || (!isUsual(known.mountPoint) && isUsual(hierarchy.mountPoint))) byDevice.set(device, hierarchy);
  }
  return [...byDevice.values()];
}

/** This host's hierarchies, as this process sees them. */
export function readHierarchies(): Hierarchy[] {
  return parseHierarchies(readFileSync('/proc/self/mountinfo', 'utf8'));
}

/** How this host's cgroups are set up: controllers in version 1 alone, beside an unused version 2 tree, or in version 2. */
export function cgroupVersion(hierarchies: Hierarchy[] = readHierarchies()): 'v1' | 'hybrid' | 'v2' {
  const versions = new Set(hierarchies.map((hierarchy) => hierarchy.version));
  if (versions.size === 2) return 'hybrid';
  return versions.has(2) ? 'v2' : 'v1';
}

const options = new Set(['rw', 'ro', 'noprefix', 'clone_children', 'xattr', 'cpuset_v2_mode', 'favordynmods', 'none']);

function isController(option: string): boolean {
  return option.startsWith('name=') || !(option.includes('=') || options.has(option));
}

function isUsual(mountPoint: string): boolean {
  return mountPoint.startsWith('/sys/fs/cgroup');
}
