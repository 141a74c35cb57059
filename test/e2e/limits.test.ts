import { readFileSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { cgroupVersion } from '../../src/runtime/cgroups';
import { MiB } from '../../src/units';
import { probe, shell, TestStore } from '../fixtures';
import { manifestOf } from '../chain-view';
import { cpuSecondsOf, kernelLimits } from '../kernel-limits';

/** Takes 100 MiB of memory. */
const allocate = 'dd if=/dev/zero of=/dev/null bs=100M count=1 2>/dev/null';
/** Has 60 processes at once, if it may. */
const fork = 'trap "kill \\$all" EXIT; i=0; while [ $i -lt 60 ]; do sleep 100 & all="$all $!"; i=$((i+1)); done; echo forked';
const burn = 'timeout 2 sh -c "while :; do :; done"';

const itBelowUse = await probe('memory-limit-below-use', () =>
  cgroupVersion() === 'v2' ? 'cgroup version 2 takes any memory limit, and kills what is above it' : undefined,
);

let store: TestStore;

beforeAll(async () => {
  store = await TestStore.create();
  await store.importBusybox('busybox', '--size', '128M');
});

/** Runs a container until the test's file is over. */
async function run(name: string, ...args: string[]): Promise<number> {
  await store.done('run', '-d', '--template', 'busybox', name, ...(args.includes('--') ? args : [...args, '--', 'sleep', '1000']));
  return pidOf(name);
}

async function pidOf(name: string): Promise<number> {
  return (await store.inspect(name)).pid as number;
}

function inside(name: string, line: string) {
  return store.loopbox(['exec', name, 'sh', '-c', line]);
}

async function output(name: string, line: string): Promise<string> {
  return store.done('exec', name, 'sh', '-c', line);
}

/** The part of a CPU that a busy loop of 2 s gets; where the host has less to give, the best of three. */
async function burnedCpus(name: string, pid: number): Promise<number> {
  let best = 0;
  for (let attempt = 0; attempt < 3 && best < 0.3; attempt++) {
    const [before, begun] = [cpuSecondsOf(pid), performance.now()];
    await inside(name, burn);
    best = Math.max(best, (cpuSecondsOf(pid) - before) / ((performance.now() - begun) / 1000));
  }
  return best;
}

describe('a memory limit', () => {
  it('ends a command that takes more, and says so', async () => {
    const result = await store.loopbox(['run', '--template', 'busybox', 'hungry', '--memory', '64M', '--', 'sh', '-c', `exec ${allocate}`]);
    expect(result.code).toBe(137);
    expect(await store.inspect('hungry')).toMatchObject({ state: 'failed', reason: 'out of memory', exitCode: 137, oomKilled: true });
    expect(await store.done('ls')).toMatch(/^hungry +failed \(out of memory\) /m);
  });

  it('leaves alone what stays below it', async () => {
    await store.done('run', '--template', 'busybox', 'modest', '--memory', '160M', '--', 'sh', '-c', allocate);
    expect(await store.inspect('modest')).toMatchObject({ state: 'stopped', exitCode: 0, oomKilled: false });
  });

  it('that was set while it runs holds at once, with swap, and for the command itself', async () => {
    const pid = await run('late', '--', 'sh', '-c', `until [ -e /tmp/go ]; do sleep 0.05; done; exec ${allocate}`);
    expect((await inside('late', allocate)).code).toBe(0);
    expect(await store.done('set', 'late', '--memory', '64M')).toBe('memory: changed now');
    expect(kernelLimits(pid)).toMatchObject({ memoryBytes: 64 * MiB });
    expect(kernelLimits(pid).swapBytes ?? 0).toBe(0);
    expect((await inside('late', allocate)).code).toBe(137);
    expect(await store.inspect('late')).toMatchObject({ state: 'running', oomKilled: false });
    await inside('late', 'touch /tmp/go');
    expect(await store.done('wait', 'late')).toBe('137');
    expect(await store.inspect('late')).toMatchObject({ state: 'failed', exitCode: 137, oomKilled: true });
  });
});

describe('a limit of processes', () => {
  it('keeps a shell from forking more, until it is raised', async () => {
    const pid = await run('crowd', '--pids', '40');
    expect(kernelLimits(pid)).toEqual({ pids: 40 });
    const refused = await inside('crowd', fork);
    expect(refused).toMatchObject({ stdout: '', stderr: expect.stringContaining("can't fork") });
    expect(refused.code).not.toBe(0);
    // Without what was forked up to the limit: exec would find no room.
    await store.done('restart', '-t', '0', 'crowd');
    expect(await store.done('set', 'crowd', '--pids', '80')).toBe('pids: changed now');
    expect(await inside('crowd', fork)).toMatchObject({ code: 0, stdout: 'forked\n', stderr: '' });
    expect(await store.done('set', 'crowd', '--pids', '40')).toBe('pids: changed now');
    expect((await inside('crowd', fork)).stderr).toContain("can't fork");
  });
});

describe('a limit of CPU time', () => {
  it('halves what a busy loop gets, also when it was set while it runs', async () => {
    const half = await run('half', '--cpus', '0.5');
    expect(kernelLimits(half)).toEqual({ cpus: 0.5 });
    const burned = await burnedCpus('half', half);
    expect(burned).toBeGreaterThan(0.3);
    expect(burned).toBeLessThan(0.6);

    const later = await run('later');
    expect(kernelLimits(later)).toEqual({});
    expect(await store.done('set', 'later', '--cpus', '0.5')).toBe('cpus: changed now');
    expect(kernelLimits(later)).toEqual({ cpus: 0.5 });
    const burnedLater = await burnedCpus('later', later);
    expect(burnedLater).toBeGreaterThan(0.3);
    expect(burnedLater).toBeLessThan(0.6);
  });
});

describe('set', () => {
  it('changes limits now and the rest at the next start, and says which', async () => {
    const pid = await run('both', '-e', 'COLOR=green', '--memory', '64M');
    expect(await store.done('set', 'both', '--memory', '80M', '--pids', '50', '-e', 'COLOR=blue', '--hostname', 'other')).toBe(
      'memory, pids: changed now\nenv, hostname: at next start',
    );
    const { swapBytes: _, ...limits } = kernelLimits(pid);
    expect(limits).toEqual({ memoryBytes: 80 * MiB, pids: 50 });
    expect(await output('both', 'echo $COLOR $(hostname)')).toBe('green both');
    await store.done('restart', '-t', '0', 'both');
    expect(await output('both', 'echo $COLOR $(hostname)')).toBe('blue other');
    const { swapBytes: __, ...after } = kernelLimits(await pidOf('both'));
    expect(after).toEqual(limits);
  });

  it('lifts a limit with none, now and for later', async () => {
    const pid = await run('free', '--memory', '64M', '--cpus', '0.5', '--pids', '40');
    expect(await store.done('set', 'free', '--memory', 'none', '--cpus', 'none', '--pids', 'none')).toBe('memory, cpus, pids: changed now');
    expect(kernelLimits(pid)).toEqual({});
    expect((await inside('free', `${allocate} && ${fork}`)).stdout).toBe('forked\n');
    await store.done('restart', '-t', '0', 'free');
    expect(kernelLimits(await pidOf('free'))).toEqual({});
    expect((await store.inspect('free')).limits).toEqual({});
  });

  itBelowUse('that the kernel refuses changes nothing', expectRefused);
});

async function expectRefused(): Promise<void> {
  const pid = await run('full', '--memory', '96M', '--cpus', '1', '--pids', '60');
  await output('full', 'dd if=/dev/zero of=/dev/shm/x bs=1M count=40 2>/dev/null');
  const before = { kernel: kernelLimits(pid), file: manifestOf(store.fileOf('full')), told: (await store.inspect('full')).config };
  const result = await store.loopbox(['set', 'full', '--memory', '16M', '--cpus', '0.5', '--pids', '20', '-e', 'A=1']);
  expect(result).toMatchObject({ code: 1, stdout: '', stderr: expect.stringContaining('Cannot set the limits of "full": ') });
  expect(result.stderr).toContain('hint: choose a limit above what it uses now');
  expect({ kernel: kernelLimits(pid), file: manifestOf(store.fileOf('full')), told: (await store.inspect('full')).config }).toEqual(before);
  expect(await store.done('set', 'full', '--cpus', '0.5')).toBe('cpus: changed now');
  expect(kernelLimits(pid)).toMatchObject({ memoryBytes: 96 * MiB, cpus: 0.5, pids: 60 });
}

describe('what runs in a container', () => {
  // chown dac_override fowner fsetid kill setgid setuid setpcap net_bind_service sys_chroot setfcap
  const podmansCapabilities = [0, 1, 3, 4, 5, 6, 7, 8, 10, 18, 31];
  const mask = podmansCapabilities
    .reduce((sum, bit) => sum | (1n << BigInt(bit)), 0n)
    .toString(16)
    .padStart(16, '0');

  beforeAll(async () => {
    // A device in the image itself: nobody may get at the host's disks by way of a copied file.
    await store.createBusybox('box', '--full', '--', 'sleep', '1000');
    const directory = join(store.root, 'mount');
    const make = 'mkdir "$1"; mount -o loop "$0" "$1"; mknod "$1/root/disk" b 7 0; mknod "$1/root/null" c 1 3; umount "$1"; rmdir "$1"';
    await shell('sh', '-ec', make, store.imageOf('box'), directory);
    await store.done('start', 'box');
  });

  it.each(['pid', 'mnt', 'net', 'ipc', 'uts', 'cgroup'])('has a %s namespace of its own, which exec enters', async (kind) => {
    const own = readlinkSync(`/proc/${await pidOf('box')}/ns/${kind}`);
    expect(own).not.toBe(readlinkSync(`/proc/self/ns/${kind}`));
    expect(await output('box', `readlink /proc/self/ns/${kind}; readlink /proc/1/ns/${kind}`)).toBe(`${own}\n${own}`);
  });

  it('sees itself alone: its processes, its loopback interface, its cgroup, its disk', async () => {
    expect(await output('box', 'ps -o pid,args | sed -n "2p"')).toBe('1 sleep 1000');
    expect(await output('box', 'ls /sys/class/net; ip -4 -o addr show lo up')).toMatch(/^lo\n.*127\.0\.0\.1\/8/);
    expect((await inside('box', 'ping -c 1 -W 5 127.0.0.1 >/dev/null || nc -z 127.0.0.1 1; ip route')).stdout).toBe('');
    expect(await output('box', 'cut -d: -f3- /proc/self/cgroup | sort -u')).toBe('/');
    expect(await output('box', 'awk \'$2 == "/" { print $3, $4 }\' /proc/mounts')).toMatch(/^ext4 rw,nodev,noatime\b/);
    expect(await output('box', 'grep -c loopbox /proc/self/mountinfo || true')).toBe('0');
  });

  it('has the capabilities that podman gives, and no more for what it starts', async () => {
    const capabilities = Object.fromEntries(
      (await output('box', 'grep ^Cap /proc/self/status')).split('\n').map((line) => line.split(':\t') as [string, string]),
    );
    const none = '0'.repeat(16);
    expect(capabilities).toEqual({ CapInh: none, CapPrm: mask, CapEff: mask, CapBnd: mask, CapAmb: none });
    const status = readFileSync(`/proc/${await pidOf('box')}/status`, 'utf8');
    expect(status).toContain(`CapBnd:\t${mask}`);
    expect(status).toContain(`CapEff:\t${mask}`);
    expect(await store.done('exec', '-u', 'alice', 'box', 'grep', 'CapEff', '/proc/self/status')).toBe(`CapEff:\t${none}`);
  });

  it('is filtered by seccomp', async () => {
    expect(await output('box', 'grep ^Seccomp: /proc/self/status /proc/1/status')).toBe(
      '/proc/self/status:Seccomp:\t2\n/proc/1/status:Seccomp:\t2',
    );
    for (const line of ['dmesg', 'mount -t tmpfs none /tmp', 'hostname other', 'date -s 2020-01-01']) {
      expect((await inside('box', line)).stderr, line).toMatch(/not permitted|permission denied/);
    }
  });

  it('has the devices of the OCI specification and can use no other', async () => {
    const devices = await output('box', 'cd /dev && find . -type c -o -type b | sort');
    expect(devices.split('\n')).toEqual(['full', 'null', 'pts/ptmx', 'random', 'tty', 'urandom', 'zero'].map((name) => `./${name}`));
    expect(await output('box', 'echo x > /dev/null; head -c 4 /dev/zero | wc -c; head -c 4 /dev/urandom | wc -c')).toBe('4\n4');
    for (const line of ['mknod /tmp/disk b 7 0', 'mknod /dev/disk b 7 0', 'mknod /tmp/mem c 1 1', 'mknod /dev/kmsg c 1 11']) {
      expect((await inside('box', line)).code, line).not.toBe(0);
    }
    for (const line of ['head -c 1 /root/disk', 'echo x > /root/disk', 'echo x > /root/null']) {
      expect((await inside('box', line)).stderr, line).toContain('Permission denied');
    }
  });

  it('finds the paths masked and read-only that podman masks and write-protects', async () => {
    const masked = ['acpi', 'kcore', 'keys', 'latency_stats', 'sched_debug', 'scsi', 'timer_list', 'timer_stats'].map(
      (name) => `/proc/${name}`,
    );
    masked.push('/sys/dev/block', '/sys/devices/virtual/powercap', '/sys/firmware', '/sys/fs/selinux');
    const readonly = ['asound', 'bus', 'fs', 'irq', 'sys', 'sysrq-trigger'].map((name) => `/proc/${name}`);
    for (const path of masked)
      expect(
        await output(
          'box',
          `[ ! -e ${path} ] || find ${path} -type f -size +0; cat ${path} 2>/dev/null || ls -A ${path} 2>/dev/null; true`,
        ),
        path,
      ).toBe('');
    const mounts = await output('box', 'cat /proc/mounts');
    for (const path of readonly)
      if ((await inside('box', `[ -e ${path} ]`)).code === 0) expect(mounts).toMatch(new RegExp(`^\\S+ ${path} \\S+ ro,`, 'm'));
    expect(mounts).toMatch(/^sysfs \/sys sysfs ro,/m);
    expect(mounts).toMatch(/^\S+ \/sys\/fs\/cgroup\S* \S+ ro,/m);
    expect((await inside('box', 'echo 1 > /proc/sys/kernel/printk')).stderr).toContain('Read-only');
  });
});
