import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, rmdirSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, it, vi } from 'vitest';
import { makeCgroup, readProcesses } from '../../src/runtime/cgroup-files';
import { readHierarchies } from '../../src/runtime/cgroup-hierarchies';
import { cleanUp, execute, lockIsFree, plainEnvironment, program, type TestStore, temporaryDirectory } from '../fixtures';
import { heldByKernel, keptOnHost, processesOf } from '../remains';
import { storeWithSleeper } from '../sleeper';
import { findVictims, kill } from '../victims';

let store: TestStore;

beforeAll(async () => {
  store = await storeWithSleeper('c');
});

describe('an attach client that is stopped', () => {
  it('does not hide from ls, wait and stop that the container has ended', async () => {
    const run = runStalled('ends', 'yes & while [ ! -e /end ]; do sleep 0.01; done; exit 3');
    const client = await run.stalls();
    const waiting = store.loopbox(['wait', 'ends']);
    await store.loopbox(['exec', 'ends', 'touch', '/end']);
    expect(await waiting).toMatchObject({ code: 0, stdout: '3\n' });
    expect(await listed('ends')).toMatchObject({ state: 'failed', reason: 'exit 3', exitCode: 3 });
    expect(await store.loopbox(['wait', 'ends'])).toMatchObject({ code: 0, stdout: '3\n' });
    await store.done('stop', 'ends');
    await expectNothingRuns(client);
    process.kill(client, 'SIGCONT');
    expect(await run.ended).toBe(3);
    expect(await listed('ends')).toMatchObject({ state: 'failed', exitCode: 3 });
    await expect.poll(() => keptOnHost(store)).toEqual([]);
  });

  it('does not keep stop from ending the container, nor the next start from beginning', async () => {
    const run = runStalled('goes-on', 'yes');
    const client = await run.stalls();
    expect(await listed('goes-on')).toMatchObject({ state: 'running' });
    await store.done('stop', '-t', '0', 'goes-on');
    await expectNothingRuns(client);
    expect(await listed('goes-on')).toMatchObject({ state: 'stopped', exitCode: 137 });
    process.kill(client, 'SIGCONT');
    expect(await run.ended).toBe(137);
    await store.done('start', 'goes-on');
    expect(await listed('goes-on')).toMatchObject({ state: 'running' });
    await store.done('stop', '-t', '0', 'goes-on');
  });

  it('does not keep the next start from beginning where the container has ended by itself', async () => {
    const run = runStalled('again', 'yes & while [ ! -e /end ]; do sleep 0.01; done; rm /end');
    const client = await run.stalls();
    await store.loopbox(['exec', 'again', 'touch', '/end']);
    await expect.poll(() => listed('again')).toMatchObject({ state: 'stopped' });
    await store.done('start', 'again');
    expect(await listed('again')).toMatchObject({ state: 'running' });
    await store.done('stop', '-t', '0', 'again');
    process.kill(client, 'SIGCONT');
    await run.ended;
  });

  async function expectNothingRuns(client: number): Promise<void> {
    await expect.poll(() => heldByKernel(store)).toEqual([`process ${client} (loopbox-attach)`]);
  }
});

describe('a container outlives the cgroup that it was started in', () => {
  for (const [how, args] of [
    ['by start', ['start', 'c']],
    ['by run in the foreground', ['run', '--template', 'busybox', 'in-front', '--', 'sh', '-c', 'echo started; exec sleep 1000']],
  ] as const) {
    it(`started ${how}`, async () => {
      const cgroups = callersCgroups();
      const join = cgroups.map((cgroup) => `echo $$ > ${cgroup}/cgroup.procs`).join('; ');
      const caller = spawnCaller(['sh', '-c', `${join}; "$@" && echo started; exec sleep 1000`, 'sh', program, ...args]);
      const died = once(caller, 'exit');
      await outputOf(caller, 'started');
      // A container may say so before its start is over, which ends with its starter until then.
      await expect.poll(() => findVictims(store, 'guardian')).toEqual([]);
      const inside = new Set(cgroups.flatMap(readProcesses));
      expect(inside).toContain(caller.pid);
      for (const cgroup of cgroups) await killAll(cgroup);
      await died;

      const name = args[0] === 'start' ? 'c' : 'in-front';
      const processNames = () =>
        processesOf(store)
          .map((process) => process.name)
          .sort();
      await expect.poll(processNames).toEqual(['conmon', 'loopbox-keeper', 'loopbox-watch', 'loopbox-worker', 'sleep']);
      const state = await listed(name);
      expect(state).toMatchObject({ state: 'running' });
      expect(state).not.toHaveProperty('reason');
      await store.done('exec', name, 'true');
      await store.done('stop', '-t', '0', name);
    });
  }
});

it('a lock that the caller’s shell holds on an inherited descriptor ends with the shell', async () => {
  const directory = await temporaryDirectory();
  const locks = [3, 9, 200].map((fd) => ({ fd, path: join(directory, `lock-${fd}`) }));
  const take = locks.map(({ fd, path }) => `exec ${fd}>${path}; flock -n ${fd}`).join(' && ');
  expect(await execute('bash', ['-c', `${take} && ${program} start c`], { env: store.environment })).toMatchObject({ code: 0 });
  expect(await listed('c')).toMatchObject({ state: 'running' });
  for (const { path } of locks) await expect.poll(() => lockIsFree(path)).toBe(true);
  await store.done('stop', '-t', '0', 'c');
});

/** A container that writes as much as it can, with a foreground run whose attach client can be stopped. */
function runStalled(name: string, command: string) {
  const caller = spawnCaller([program, 'run', '--template', 'busybox', name, '--', 'sh', '-c', command]);
  const ended = once(caller, 'exit').then(([code]) => code as number);
  const stalls = async (): Promise<number> => {
    await outputOf(caller, 'y\n');
    const client = processesOf(store).find((process) => process.name === 'loopbox-attach')?.pid ?? 0;
    expect(client).toBeGreaterThan(0);
    process.kill(client, 'SIGSTOP');
    cleanUp(() => void kill(client));
    const log = `/var/log/loopbox/${store.component}/${name}.log`;
    // The monitor logs what it reads, until it has to wait for the client.
    let size = -1;
    await expect.poll(() => size === (size = statSync(log).size), { interval: 200 }).toBe(true);
    return client;
  };
  return { ended, stalls };
}

function spawnCaller([command = '', ...args]: string[]): ChildProcessWithoutNullStreams {
  const child = spawn(command, args, { env: { ...plainEnvironment(), ...store.environment } });
  child.stderr.resume();
  cleanUp(() => void child.kill('SIGKILL'));
  return child;
}

/** Waits for a text in the program's output, of which the rest is thrown away. */
async function outputOf(child: ChildProcessWithoutNullStreams, text: string): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    child.stdout.on('data', (chunk: Buffer) => chunk.includes(text) && resolve());
    child.once('exit', (code) => reject(new Error(`It ended with ${code}`)));
  });
}

async function listed(name: string): Promise<Record<string, unknown>> {
  const result = await store.loopbox(['ls', '--format', 'json'], { timeoutMs: 60_000 });
  expect(result).toMatchObject({ code: 0, stderr: '' });
  return (JSON.parse(result.stdout) as Record<string, unknown>[]).find((container) => container.name === name) ?? {};
}

/** A cgroup in every hierarchy, as a session of the caller's service manager has it. */
function callersCgroups(): string[] {
  return readHierarchies().map((hierarchy) => {
    const name = `test-caller-${process.pid}`;
    makeCgroup(hierarchy, name);
    const path = join(hierarchy.mountPoint, name);
    cleanUp(async () => {
      await killAll(path);
      await vi.waitFor(() => rmdirSync(path), { timeout: 20_000 });
    });
    return path;
  });
}

async function killAll(cgroup: string): Promise<void> {
  if (!existsSync(cgroup)) return;
  const atOnce = join(cgroup, 'cgroup.kill');
  if (existsSync(atOnce)) writeFileSync(atOnce, '1');
  for (let pids = readProcesses(cgroup); pids.length > 0; pids = readProcesses(cgroup)) {
    for (const pid of pids) await kill(pid);
  }
}
