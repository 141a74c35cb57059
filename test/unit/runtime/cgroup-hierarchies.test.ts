import { expect, it } from 'vitest';
import { cgroupVersion, parseHierarchies } from '../../../src/runtime/cgroup-hierarchies';

const others = `22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755`;
const version1 = `32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct
34 31 0:31 / /sys/fs/cgroup/cpuset rw,relatime - cgroup cgroup rw,cpuset,clone_children
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,release_agent=/lib/agent,name=systemd`;
const version2 = '41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw,nsdelegate';

it('finds all hierarchies, named ones and version 2 included', () => {
  expect(parseHierarchies(`${others}\n${version1}\n${version2}\n`)).toEqual([
    { mountPoint: '/sys/fs/cgroup/cpu,cpuacct', version: 1, controllers: ['cpu', 'cpuacct'] },
    { mountPoint: '/sys/fs/cgroup/cpuset', version: 1, controllers: ['cpuset'] },
    { mountPoint: '/sys/fs/cgroup/systemd', version: 1, controllers: ['name=systemd'] },
    { mountPoint: '/sys/fs/cgroup/unified', version: 2, controllers: [] },
  ]);
});

it('takes each hierarchy once, at its usual place', () => {
  const twice = `40 31 0:38 / /mnt/a\\040b rw - cgroup2 none rw\n${version2}\n42 31 0:38 / /srv/cgroup rw - cgroup2 none rw`;
  expect(parseHierarchies(twice).map(({ mountPoint }) => mountPoint)).toEqual(['/sys/fs/cgroup/unified']);
  expect(parseHierarchies('40 31 0:38 / /mnt/a\\040b rw - cgroup2 none rw')[0]?.mountPoint).toBe('/mnt/a b');
});

it('tells the three kinds of hosts apart', () => {
  const kind = (...parts: string[]) => cgroupVersion(parseHierarchies(parts.join('\n')));
  expect(kind(others, version1)).toBe('v1');
  expect(kind(others, version1, version2)).toBe('hybrid');
  expect(kind(others, version2)).toBe('v2');
});
