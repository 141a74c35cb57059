import { existsSync, mkdirSync, readdirSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { readProcess } from '../../../src/runtime/processes';
import { type LastRun, RunDirectory, type RunRecord } from '../../../src/runtime/run-directory';
import { inspectRun } from '../../../src/runtime/status';
import { temporaryDirectory } from '../../temporary';

const last: LastRun = {
  file: '/srv/web.img',
  identity: 'web',
  exitCode: 3,
  oomKilled: false,
  startedAt: '2026-01-01T00:00:00.000Z',
  endedAt: '2026-01-02T00:00:00.000Z',
  requested: false,
};

async function newDirectory(component?: string) {
  const runRoot = await temporaryDirectory();
  return { runRoot, directory: new RunDirectory({ runRoot, component, id: 'web' }) };
}

function recordOf(pid: number, pidStart: number): RunRecord {
  return {
    id: 'web',
    file: '/srv/web.img',
    identity: 'web',
    label: 'web',
    loop: { index: 3, diskSequence: 17 },
    stopSignal: 'SIGTERM',
    limits: {},
    runtime: '/usr/sbin/runc',
    terminal: false,
    hasExitCommand: false,
    startedAt: '2026-02-01T00:00:00.000Z',
    pid,
    pidStart,
    conmonPid: pid,
    conmonStart: pidStart,
  };
}

it('keeps stores apart, in the run root as in the cgroups', async () => {
  const { runRoot, directory } = await newDirectory('_r-12345678');
  expect(directory.root).toBe(join(runRoot, '_r-12345678', 'web'));
  expect(directory.cgroupParent).toBe('loopbox/_r-12345678/web');
  expect((await newDirectory()).directory.cgroupParent).toBe('loopbox/web');
});

it('keeps the record of how the last run ended, and nothing else', async () => {
  const { runRoot, directory } = await newDirectory('_r-12345678');
  expect([directory.exists(), directory.hasRemains(), directory.readRecord(), directory.readLast()]).toEqual([
    false,
    false,
    undefined,
    undefined,
  ]);
  directory.prepare();
  expect(directory.hasRemains()).toBe(true);
  directory.writeRecord(recordOf(1, 2));
  directory.writeLast(last);
  directory.clear();
  expect(readdirSync(directory.root)).toEqual(['last.json']);
  expect(directory.hasRemains()).toBe(false);
  expect(await inspectRun(directory)).toEqual({ running: false, monitorAlive: false, last });
  directory.remove();
  expect(readdirSync(runRoot)).toEqual([]);
});

it('leaves nothing of a run that never began, and the directories of others', async () => {
  const { runRoot, directory } = await newDirectory('_r-12345678');
  mkdirSync(join(runRoot, '_r-12345678', 'other'), { recursive: true });
  directory.prepare();
  directory.clear();
  directory.clear();
  expect(readdirSync(join(runRoot, '_r-12345678'))).toEqual(['other']);
});

it('judges by the process, not by what is written', async () => {
  const { directory } = await newDirectory();
  directory.prepare();
  const start = readProcess(process.pid)?.start ?? 0;
  directory.writeRecord(recordOf(process.pid, start));
  writeFileSync(join(directory.persistDir, 'exit'), '0');
  expect(await inspectRun(directory)).toMatchObject({ running: true, monitorAlive: true });

  directory.writeRecord(recordOf(process.pid, start - 1));
  writeFileSync(join(directory.persistDir, 'exit'), '137');
  writeFileSync(join(directory.persistDir, 'oom'), '');
  const ended = { running: false, monitorAlive: false };
  expect(await inspectRun(directory)).toMatchObject({ ...ended, last: { exitCode: 137, oomKilled: true, requested: false } });
  // A child was killed for lack of memory, and later the container by its admin.
  directory.markStopRequested(60_000);
  expect(await inspectRun(directory)).toMatchObject({ ...ended, last: { exitCode: 137, oomKilled: false, requested: true } });
});

it('takes an end for asked for only if it follows soon, and as long as the request stands', async () => {
  const { directory } = await newDirectory();
  directory.prepare();
  directory.writeRecord(recordOf(process.pid, 1));
  writeFileSync(join(directory.persistDir, 'exit'), '9');
  const requested = async () => (await inspectRun(directory)).last?.requested;
  directory.markStopRequested(60_000);
  expect(await requested()).toBe(true);
  const later = Date.now() / 1000 + 61;
  utimesSync(join(directory.persistDir, 'exit'), later, later);
  expect(await requested()).toBe(false);
  directory.markStopRequested(120_000);
  expect(await requested()).toBe(true);
  directory.clearStopRequest();
  expect(await requested()).toBe(false);
  // Of one that has ended and was tidied up already, there is nothing to note.
  directory.clear();
  directory.markStopRequested(1);
  expect(directory.exists()).toBe(false);
});

it('removes nothing that somebody put or mounted where the container’s root was', async () => {
  const { directory } = await newDirectory();
  directory.prepare();
  directory.writeRecord(recordOf(process.pid, 1));
  const precious = join(directory.rootfsPath, 'precious');
  writeFileSync(precious, '');
  for (const remove of [() => directory.clear(), () => directory.remove()]) {
    expect(remove).toThrow(/^Cannot tidy up after "web": directory not empty/);
    expect(existsSync(precious)).toBe(true);
  }
  expect(directory.readRecord()).toBeDefined();
  rmSync(precious);
  directory.remove();
  expect(directory.exists()).toBe(false);
});

it('says why an exit code is not known', async () => {
  const { directory } = await newDirectory();
  directory.prepare();
  directory.writeRecord(recordOf(process.pid, 1));
  expect((await inspectRun(directory)).last).toMatchObject({ exitCode: null, oomKilled: false, reason: 'its monitor was killed' });
});

it('takes a damaged record for none', async () => {
  const { directory } = await newDirectory();
  directory.prepare();
  writeFileSync(join(directory.root, 'run.json'), '{"pid":');
  expect(directory.readRecord()).toBeUndefined();
  expect(existsSync(directory.root)).toBe(true);
});

it('reads the process back from the bundle', async () => {
  const { directory } = await newDirectory();
  directory.prepare();
  const user = { uid: 1, gid: 2, additionalGids: [3] };
  writeFileSync(directory.configPath, JSON.stringify({ process: { args: ['a', 'b'], env: ['A=1=2', 'B='], cwd: '/', user } }));
  expect(directory.readConfig().process).toEqual({
    command: ['a', 'b'],
    environment: { A: '1=2', B: '' },
    workdir: '/',
    user: { uid: 1, gid: 2, groups: [3] },
  });
});
