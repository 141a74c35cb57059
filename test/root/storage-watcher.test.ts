import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, it } from 'vitest';
import { storageTrouble } from '../../src/container/storage-state';
import { Store } from '../../src/container/store';
import { namedTarget } from '../../src/container/target';
import { startStorageWatcher } from '../../src/loop/storage-watcher';
import { readHierarchies } from '../../src/runtime/cgroup-hierarchies';
import { isAlive, type ProcessIdentity, readProcess } from '../../src/runtime/processes';
import { cleanUp, temporaryDirectory } from '../fixtures';
import { hasEndedWithin } from '../served-chain';

function identityOf(pid: number): ProcessIdentity {
  return { pid, start: readProcess(pid)?.start ?? 0 };
}

function sleeper(): ChildProcess {
  const child = spawn('sleep', ['1000'], { stdio: 'ignore' });
  cleanUp(() => void child.kill('SIGKILL'));
  return child;
}

/** A cgroup that can be frozen, with a process in it that stands for a container's first; another one is in it, too. */
function container() {
  const hierarchies = readHierarchies();
  const hierarchy =
    hierarchies.find(({ controllers }) => controllers.includes('freezer')) ?? hierarchies.find(({ version }) => version === 2);
  const path = join(hierarchy?.mountPoint ?? '', `watched-${process.pid}-${performance.now()}`);
  mkdirSync(path);
  cleanUp(async () => {
    for (let attempt = 0; attempt < 100 && existsSync(path); attempt++) {
      await sleep(10);
      try {
        rmdirSync(path);
      } catch {
        // Its processes are not reaped yet.
      }
    }
  });
  const [init, other] = [sleeper(), sleeper()].map((child) => identityOf(child.pid ?? 0)) as [ProcessIdentity, ProcessIdentity];
  const processesFile = join(path, 'cgroup.procs');
  for (const { pid } of [init, other]) writeFileSync(processesFile, String(pid));
  const freezer =
    hierarchy?.version === 2 ? { file: 'cgroup.freeze', on: '1', off: '0' } : { file: 'freezer.state', on: 'FROZEN', off: 'THAWED' };
  const thaw = { path: join(path, freezer.file), value: freezer.off };
  return { init, other, processesFile, thaw, freeze: () => writeFileSync(thaw.path, freezer.on) };
}

async function watched() {
  const box = container();
  const keeper = sleeper();
  const directory = await temporaryDirectory();
  const markPath = join(directory, 'storage-lost');
  const controlPath = join(directory, 'control');
  let watcher = identityOf(0);
  startStorageWatcher({
    ...box,
    keeper: identityOf(keeper.pid ?? 0),
    markPath,
    controlPath,
    moveToCgroup: (pid) => (watcher = identityOf(pid)),
  });
  expect(isAlive(watcher)).toBe(true);
  return { ...box, keeper, markPath, controlPath, watcher };
}

it.each(['running', 'frozen'])('kills a %s container whose storage server ends, and leaves a mark', async (state) => {
  const { init, other, freeze, keeper, markPath, watcher } = await watched();
  if (state === 'frozen') freeze();
  await sleep(100);
  expect(existsSync(markPath)).toBe(false);
  expect(isAlive(init)).toBe(true);
  const began = performance.now();
  keeper.kill('SIGKILL');
  for (const each of [init, other, watcher]) expect(await hasEndedWithin(each, 5000)).toBe(true);
  expect(performance.now() - began).toBeLessThan(5000);
  expect(readFileSync(markPath, 'utf8')).toBe('storage server lost\n');
});

it('ends with the container, also where its storage ends right after', async () => {
  const { init, other, keeper, markPath, watcher } = await watched();
  // It is to see both ends at once: which of two killed processes ends first is the kernel's choice.
  process.kill(watcher.pid, 'SIGSTOP');
  process.kill(init.pid, 'SIGKILL');
  keeper.kill('SIGKILL');
  for (const each of [init, identityOf(keeper.pid ?? 0)]) expect(await hasEndedWithin(each, 20_000)).toBe(true);
  process.kill(watcher.pid, 'SIGCONT');
  expect(await hasEndedWithin(watcher, 20_000)).toBe(true);
  expect(existsSync(markPath)).toBe(false);
  expect(isAlive(other)).toBe(true);
});

it('leaves a mark also where the container has died of the loss already', async () => {
  const { init, keeper, markPath, controlPath, watcher } = await watched();
  writeFileSync(controlPath, '');
  process.kill(watcher.pid, 'SIGSTOP');
  keeper.kill('SIGKILL');
  process.kill(init.pid, 'SIGKILL');
  for (const each of [init, identityOf(keeper.pid ?? 0)]) expect(await hasEndedWithin(each, 20_000)).toBe(true);
  process.kill(watcher.pid, 'SIGCONT');
  expect(await hasEndedWithin(watcher, 20_000)).toBe(true);
  expect(existsSync(markPath)).toBe(true);
});

it('leaves a mark also where the container dies of the loss before its storage has quite ended', async () => {
  const { init, keeper, markPath, controlPath, watcher } = await watched();
  writeFileSync(controlPath, '');
  process.kill(init.pid, 'SIGKILL');
  keeper.kill('SIGKILL');
  expect(await hasEndedWithin(watcher, 20_000)).toBe(true);
  expect(existsSync(markPath)).toBe(true);
});

it('takes no other process of the same number for one that it watches', async () => {
  const { init, processesFile } = container();
  const keeper = identityOf(sleeper().pid ?? 0);
  const markPath = join(await temporaryDirectory(), 'storage-lost');
  let watcher = identityOf(0);
  startStorageWatcher({
    keeper,
    init: { ...init, start: init.start - 1 },
    markPath,
    controlPath: `${markPath}-control`,
    processesFile,
    moveToCgroup: (pid) => (watcher = identityOf(pid)),
  });
  expect(await hasEndedWithin(watcher, 20_000)).toBe(true);
  expect(existsSync(markPath)).toBe(false);
  expect(isAlive(init)).toBe(true);
});

it('a storage server that has ended is lost to a container that goes on, not to one that has ended before', async () => {
  const directory = await temporaryDirectory();
  const target = namedTarget(new Store({ root: join(directory, 'root'), runRoot: join(directory, 'run') }), 'web');
  const [first, keeper] = [sleeper(), sleeper()];
  const [init, server] = [first, keeper].map((child) => identityOf(child.pid ?? 0)) as [ProcessIdentity, ProcessIdentity];
  const trouble = () => storageTrouble(target, { pid: init.pid, pidStart: init.start, server });
  expect(await trouble()).toBeUndefined();
  keeper.kill('SIGKILL');
  await expect.poll(trouble).toBe('storage server lost');
  first.kill('SIGKILL');
  await expect.poll(trouble).toBeUndefined();
});
