import { expect, it } from 'vitest';
import { ownCgroup } from '../../../src/runtime/expect-moves';

const text = '9:name=systemd:/user.slice/a:b\n4:cpu,cpuacct:/batch\n0::/init.scope\n';

it.each([
  { name: 'a named one', version: 1, controllers: ['name=systemd'], path: '/user.slice/a:b' },
  { name: 'one with controllers', version: 1, controllers: ['cpu', 'cpuacct'], path: '/batch' },
  { name: 'version 2', version: 2, controllers: [], path: '/init.scope' },
  { name: 'one that the process is not told of', version: 1, controllers: ['pids'], path: undefined },
] as const)("finds the process's cgroup in $name", ({ version, controllers, path }) => {
  expect(ownCgroup({ mountPoint: '/sys/fs/cgroup/x', version, controllers: [...controllers] }, text)).toBe(path);
});
