import { expect, it, vi } from 'vitest';
import { type ContainerSpec, makeOciConfig, makeOciUpdate } from '../../../src/runtime/oci-config';

vi.mock('../../../src/runtime/seccomp', () => ({
  readSeccomp: () => ({ defaultAction: 'SCMP_ACT_ERRNO', architectures: [], syscalls: [] }),
}));

const spec: ContainerSpec = {
  command: ['/bin/sh', '-c', 'true'],
  environment: { PATH: '/bin', EMPTY: '', WITH: 'a=b' },
  workdir: '/srv',
  user: { uid: 0, gid: 0, groups: [] },
  hostname: 'web',
  limits: {},
  terminal: false,
  cgroupsPath: '/loopbox/web/container',
  rootfs: '/run/loopbox/web/rootfs',
};
const host = { canLimitSwap: true };

it('starts the command as it was given', () => {
  const { process, hostname, root, linux } = makeOciConfig({ ...spec, terminal: true }, host);
  expect(process).toMatchObject({ args: spec.command, env: ['PATH=/bin', 'EMPTY=', 'WITH=a=b'], cwd: '/srv', terminal: true });
  expect({ hostname, root }).toEqual({ hostname: 'web', root: { path: spec.rootfs, readonly: false } });
  expect(linux.cgroupsPath).toBe('/loopbox/web/container');
});

it('has namespaces of its own, no device but the standard ones, and no rlimits', () => {
  const config = makeOciConfig(spec, host);
  expect(config.linux.namespaces).toEqual(['pid', 'mount', 'network', 'ipc', 'uts', 'cgroup'].map((type) => ({ type })));
  expect(config.linux.resources).toEqual({ devices: [{ allow: false, access: 'rwm' }] });
  expect(config.linux).not.toHaveProperty('devices');
  expect(config.process).not.toHaveProperty('rlimits');
  expect(config.mounts.every(({ type }) => type !== 'bind')).toBe(true);
});

it("gives root podman's eleven capabilities, and others only the bound", () => {
  const root = makeOciConfig(spec, host).process.capabilities;
  expect(root.effective).toHaveLength(11);
  expect(root).toEqual({ bounding: root.effective, effective: root.effective, permitted: root.effective });
  expect(root.bounding).not.toContain('CAP_MKNOD');
  const user = { uid: 1000, gid: 1000, groups: [50] };
  const other = makeOciConfig({ ...spec, user }, host).process;
  expect(other.capabilities).toEqual({ bounding: root.bounding, effective: [], permitted: [] });
  expect(other.user).toEqual({ uid: 1000, gid: 1000, additionalGids: [50] });
});

it('limits memory and swap together where the host can, CPU time and processes', () => {
  const limits = { memoryBytes: 64, cpus: 0.5, pids: 40 };
  expect(makeOciConfig({ ...spec, limits }, host).linux.resources).toMatchObject({
    memory: { limit: 64, swap: 64 },
    cpu: { quota: 50_000, period: 100_000 },
    pids: { limit: 40 },
  });
  expect(makeOciConfig({ ...spec, limits }, { canLimitSwap: false }).linux.resources.memory).toEqual({ limit: 64 });
});

it('lifts what is missing from new limits', () => {
  expect(makeOciUpdate({ cpus: 2 }, host)).toEqual({
    memory: { limit: -1, swap: -1 },
    cpu: { quota: 200_000, period: 100_000 },
    pids: { limit: -1 },
  });
  expect(makeOciUpdate({ memoryBytes: 64, pids: 3 }, { canLimitSwap: false })).toEqual({
    memory: { limit: 64 },
    cpu: { quota: -1, period: 100_000 },
    pids: { limit: 3 },
  });
});
