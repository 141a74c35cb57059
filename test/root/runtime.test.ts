import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it, onTestFinished, vi } from 'vitest';
import { LoopboxError } from '../../src/errors';
import { findProgram } from '../../src/runtime/find-program';
import { readLogs } from '../../src/runtime/logs';
import { signalContainer } from '../../src/runtime/signal-container';
import { inspectRun } from '../../src/runtime/status';
import { updateLimits } from '../../src/runtime/update';
import { MiB } from '../../src/units';
import { seededRandom, soakCount, temporaryDirectory } from '../fixtures';
import { kill } from '../victims';
import { TestContainer } from './test-container';

/** cgroup paths of a process, without the hierarchies' names. */
function cgroupsOf(pid: number): string[] {
  return readFileSync(`/proc/${pid}/cgroup`, 'utf8')
    .trim()
    .split('\n')
    .map((line) => line.split(':').slice(2).join(':'));
}

async function log(container: TestContainer): Promise<string[]> {
  const lines: string[] = [];
  for await (const line of readLogs(container.logPath)) lines.push(`${line.stream}: ${line.text}`);
  return lines;
}

it('starts a container that the host sees nothing of but its processes', async () => {
  const container = await TestContainer.create();
  const record = await container.start({ command: ['sh', '-c', 'echo out; echo err >&2; sleep 1000'] });
  expect(await inspectRun(container.directory)).toEqual({ running: true, monitorAlive: true, record });
  expect(readFileSync('/proc/1/mountinfo', 'utf8')).not.toContain(`/dev/loop${record.loop.index}`);
  while ((await log(container)).length < 2) await sleep(10);
  const place = `/${container.directory.cgroupParent}`;
  // Not one hierarchy in which the container or its monitor would die with its caller.
  expect(cgroupsOf(record.conmonPid).every((path) => path === `${place}/monitor`)).toBe(true);
  expect(cgroupsOf(record.pid).every((path) => path === `${place}/container`)).toBe(true);

  process.kill(record.pid, 'SIGKILL');
  expect(await container.isFree()).toBe(true);
  expect(await container.ended()).toMatchObject({ exitCode: 137, oomKilled: false, requested: false, startedAt: record.startedAt });
  expect(readdirSync(container.directory.root)).toEqual(['last.json']);
  expect(await log(container)).toEqual(['stdout: out', 'stderr: err']);
});

it("keeps the command's exit code, and the log over several runs", async () => {
  const container = await TestContainer.create();
  for (const code of [0, 7, 255]) {
    await container.start({ command: ['sh', '-c', `echo ${code}; exit ${code}`] });
    expect(await container.ended()).toMatchObject({ exitCode: code });
  }
  expect(await log(container)).toEqual(['stdout: 0', 'stdout: 7', 'stdout: 255']);
});

it('confines what it runs', async () => {
  const container = await TestContainer.create();
  await container.start();
  const { output } = await container.exec(
    'grep -E "^(CapEff|CapBnd|Seccomp):" /proc/self/status; hostname; ls /dev; cat /proc/self/cgroup',
  );
  expect(output).toContain('CapEff:\t00000000800405fb\nCapBnd:\t00000000800405fb\nSeccomp:\t2\nbox\n');
  expect(output.match(/^[a-z]+$/gm)).toEqual([
    'box',
    'fd',
    'full',
    'mqueue',
    'null',
    'ptmx',
    'pts',
    'random',
    'shm',
    'stderr',
    'stdin',
    'stdout',
    'tty',
    'urandom',
    'zero',
  ]);
  expect(output.match(/^\d+:.*$/gm)?.every((line) => line.endsWith(':/'))).toBe(true);
  expect(await container.exec('dmesg')).toMatchObject({ code: 1 });
  expect((await container.exec('ip addr show lo')).output).toContain('127.0.0.1');
  expect((await container.exec('mknod /tmp/disk b 7 0')).code).not.toBe(0);
  expect((await container.exec('echo 1 > /proc/sys/kernel/panic; echo $?')).output).toContain('Read-only');
  expect((await container.exec('id -u; grep CapEff: /proc/self/status', { user: 1000 })).output).toBe('1000\nCapEff:\t0000000000000000');
});

it('tells how a process in it ended', async () => {
  const container = await TestContainer.create();
  await container.start();
  expect(await container.exec('echo hi; exit 9')).toEqual({ code: 9, output: 'hi' });
  expect(await container.exec('kill -TERM $$')).toMatchObject({ code: 143 });
  expect((await container.exec('cat')).code).toBe(0);
  await expect(container.exec('exec sleep 4321', { signal: AbortSignal.timeout(300) })).rejects.toThrow('aborted');
  expect((await container.exec('ps')).output).not.toContain('4321');
  expect(readdirSync(container.directory.root).filter((name) => name.startsWith('exec-'))).toEqual([]);
});

describe('limits', () => {
  const burn = 'dd if=/dev/zero of=/dev/null bs=100M count=1';
  /** The part of the time that a busy loop is given, over some 2 s. */
  const cpusOf = async (container: TestContainer): Promise<number> => {
    const { output } = await container.exec('time -p timeout 2 sh -c "while :; do :; done"');
    const seconds = (name: string) => Number(new RegExp(`^${name} ([\\d.]+)$`, 'm').exec(output)?.[1]);
    return (seconds('user') + seconds('sys')) / seconds('real');
  };
  const forks = 'i=0; while [ $i -lt 60 ]; do sleep 1 & i=$((i+1)); done';

  it('ends a command that takes too much memory, and says so', async () => {
    const container = await TestContainer.create();
    await container.start({ command: ['sh', '-c', `exec ${burn}`], limits: { memoryBytes: 64 * MiB } });
    expect(await container.ended()).toMatchObject({ exitCode: 137, oomKilled: true });
  });

  it('does not take the death of a child for the end of the command', async () => {
    const container = await TestContainer.create();
    await container.start({ command: ['sh', '-c', `${burn}; exit 3`], limits: { memoryBytes: 64 * MiB } });
    expect(await container.ended()).toMatchObject({ exitCode: 3, oomKilled: false });
  });

  it('bounds processes and CPU time, also those set while it runs', async () => {
    const container = await TestContainer.create();
    await container.start({ limits: { memoryBytes: 64 * MiB, pids: 40, cpus: 0.5 } });
    // Before what is forked leaves no room for more.
    expect(await cpusOf(container)).toBeLessThan(0.6);
    expect((await container.exec(forks)).output).toContain("can't fork");
    await updateLimits(container.directory, 'runc', { memoryBytes: 200 * MiB, cpus: 0.25 });
    expect((await container.exec(forks)).output).toBe('');
    expect((await container.exec(burn)).code).toBe(0);
    expect(await cpusOf(container)).toBeLessThan(0.35);
    await updateLimits(container.directory, 'runc', { memoryBytes: 64 * MiB });
    expect((await container.exec(burn)).code).toBe(137);
    await updateLimits(container.directory, 'runc', {});
    expect((await container.exec(burn)).code).toBe(0);
    await expect(updateLimits(container.directory, 'runc', { memoryBytes: 4096 })).rejects.toThrow(
      /Cannot set the limits of "box": unable to set memory limit/,
    );
  });
});

describe('a start that fails', () => {
  it.each([
    [['/nope'], 127],
    [['nope'], 127],
    [['/etc/passwd'], 126],
    [['/etc'], 126],
  ])('says why: %s', async (command, exitCode) => {
    const container = await TestContainer.create();
    const error: unknown = await container.start({ command }).catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(LoopboxError);
    expect(error).toMatchObject({ exitCode });
    expect(await container.isFree()).toBe(true);
    expect(container.directory.exists()).toBe(false);
  });

  it('keeps how the run before it ended', async () => {
    const container = await TestContainer.create();
    await container.start({ command: ['sh', '-c', 'exit 4'] });
    await container.ended();
    await expect(container.start({ command: ['/nope'] })).rejects.toThrow();
    expect(container.directory.readLast()).toMatchObject({ exitCode: 4 });
    expect(container.directory.hasRemains()).toBe(false);
  });

  it('takes back all it did when its last step fails', async () => {
    const container = await TestContainer.create();
    const beforeStart = () => Promise.reject(new Error('no client'));
    await expect(container.start({ beforeStart })).rejects.toThrow('no client');
    expect(await container.isFree()).toBe(true);
    expect(container.directory.exists()).toBe(false);
  });

  it('leaves nothing wherever it is aborted', async () => {
    const container = await TestContainer.create();
    const random = seededRandom();
    for (let round = 0; round < soakCount(50); round++) {
      const signal = AbortSignal.timeout(random.below(70));
      const started = await container.start({ signal }).then(
        () => true,
        () => false,
      );
      if (started) await kill(container.record.pid);
      expect(await container.isFree()).toBe(true);
      if (started) await container.ended();
      container.directory.remove();
      expect(await container.leftovers()).toEqual([]);
    }
  });
});

describe('kills', () => {
  it.each(['conmon', 'runc', 'loopbox-oci', 'loopbox-guard'])(
    'of %s while it starts leave a running container or nothing',
    async (victim) => {
      const container = await TestContainer.create();
      const random = seededRandom();
      for (let round = 0; round < soakCount(50); round++) {
        const starting = container.start().then(
          () => true,
          () => false,
        );
        const delay = random.below(80);
        await sleep(delay);
        for (const pid of container.processes(victim)) await kill(pid);
        const started = await starting;
        const state = await inspectRun(container.directory);
        expect(state.running).toBe(started);
        if (started) {
          expect((await container.exec('true')).code).toBe(0);
          await kill(container.record.pid);
        }
        expect(await container.isFree()).toBe(true);
        if (started) await container.ended();
        container.directory.remove();
        expect(await container.leftovers()).toEqual([]);
      }
    },
  );

  it('of the monitor before it has said which process it is leave nothing', async () => {
    const container = await TestContainer.create();
    const programs = await temporaryDirectory();
    const elsewhere = `exec ${findProgram('conmon')} "$@" --conmon-pidfile ${join(programs, 'elsewhere')}`;
    await writeFile(join(programs, 'conmon'), `#!/bin/sh\n${elsewhere}\n`, { mode: 0o755 });
    vi.stubEnv('PATH', `${programs}:${process.env.PATH}`);
    onTestFinished(() => void vi.unstubAllEnvs());
    await expect(container.start()).rejects.toMatchObject({ code: 'ERR_LOOPBOX_FAILED', message: /its monitor was killed on the way/ });
    expect(await container.leftovers()).toEqual([]);
  });

  it('of the monitor leave the container running, and the next start is normal', async () => {
    const container = await TestContainer.create();
    const record = await container.start();
    await kill(record.conmonPid);
    expect(await inspectRun(container.directory)).toMatchObject({ running: true, monitorAlive: false });
    expect((await container.exec('true')).code).toBe(0);
    container.directory.markStopRequested(10_000);
    await signalContainer(record, 'KILL');
    expect(await container.ended()).toMatchObject({ requested: true });
    await expect(signalContainer(record, 'KILL')).rejects.toThrow('it is not running');
    await container.start({ command: ['true'] });
    expect(await container.ended()).toMatchObject({ exitCode: 0 });
  });
});

it("runs its starter's exit command in place of its own, which tidies up from within", async () => {
  const container = await TestContainer.create();
  const told = join(container.directory.root, '../told');
  const record = await container.start({
    command: ['true'],
    exitCommand: ['sh', '-c', `cat ${container.directory.persistDir}/exit > ${told}`],
  });
  expect(record.hasExitCommand).toBe(true);
  await expect.poll(() => existsSync(told) && readFileSync(told, 'utf8')).toBe('0');
  await container.ended();
});
