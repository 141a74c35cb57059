import { existsSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, describe, expect, it } from 'vitest';
import { readProcesses } from '../../src/runtime/cgroup-files';
import { readHierarchies } from '../../src/runtime/cgroup-hierarchies';
import { Freezer } from '../../src/runtime/freeze';
import { FreezeGuardian } from '../../src/runtime/freeze-guardian';
import { openFileSystem } from '../../src/runtime/open-file-system';
import { inspectRun } from '../../src/runtime/status';
import { thaw } from '../../src/runtime/thaw';
import { temporaryDirectory } from '../fixtures';
import { kill } from '../victims';
import { TestContainer } from './test-container';

/** A container that writes without a pause, and what shows whether it gets on. */
async function startWriter(): Promise<{ container: TestContainer; tick: () => number }> {
  const container = await TestContainer.create();
  const { pid } = await container.start({ command: ['sh', '-c', 'while :; do echo x > /tick; done'] });
  const tick = () => statSync(`/proc/${pid}/root/tick`, { throwIfNoEntry: false })?.mtimeMs ?? 0;
  await expect.poll(tick).toBeGreaterThan(0);
  return { container, tick };
}

/** Expects that it gets on; how soon is not for this to say, where others keep the host's disk busy. */
async function expectWriting(tick: () => number): Promise<void> {
  const before = tick();
  await expect.poll(tick, { interval: 5 }).toBeGreaterThan(before);
}

/** Expects that it does not get on for a second. */
async function expectHeld(tick: () => number): Promise<void> {
  const before = tick();
  await sleep(1000);
  expect(tick()).toBe(before);
}

describe('a freeze', () => {
  it('holds every writer back until the thaw, and leaves nothing behind', async () => {
    const { container, tick } = await startWriter();
    await using freezer = await Freezer.prepare(container.directory, container.record);
    await freezer.sync();
    await expectWriting(tick);
    const begun = performance.now();
    await freezer.freeze();
    await expectHeld(tick);
    const end = await freezer.thaw();
    expect(end.held).toBe(true);
    expect(end.frozenMs).toBeGreaterThan(990);
    expect(end.frozenMs).toBeLessThan(performance.now() - begun);
    await expectWriting(tick);
    await freezer.close();
    expectAtRest(container);
  });

  it('is held by a process in the monitor’s cgroups, of a session of its own', async () => {
    const { container } = await startWriter();
    await using _freezer = await Freezer.prepare(container.directory, container.record);
    const [guardian = 0] = container.processes('loopbox-freeze');
    for (const { mountPoint } of readHierarchies()) {
      expect(readProcesses(join(mountPoint, container.directory.cgroupParent, 'monitor'))).toContain(guardian);
    }
    expect(sessionOf(guardian)).toBe(guardian);
  });

  it('ends with its closing, and so does one that is only prepared', async () => {
    const { container, tick } = await startWriter();
    for (const freeze of [true, false]) {
      const freezer = await Freezer.prepare(container.directory, container.record);
      if (freeze) await freezer.freeze();
      await freezer.close();
      await freezer.close();
      await expectWriting(tick);
      expectAtRest(container);
    }
  });

  it('that was aborted is ended by closing', async () => {
    const { container, tick } = await startWriter();
    const abort = new AbortController();
    const freezer = await Freezer.prepare(container.directory, container.record, abort.signal);
    await freezer.freeze();
    abort.abort(new Error('enough'));
    await expect(freezer.sync()).rejects.toThrow('enough');
    await freezer.close();
    await expectWriting(tick);
    await expect(Freezer.prepare(container.directory, container.record, abort.signal)).rejects.toThrow('enough');
    expectAtRest(container);
  });

  it('tells that somebody else has thawed it', async () => {
    const { container } = await startWriter();
    await using freezer = await Freezer.prepare(container.directory, container.record);
    await using other = await openFileSystem(container.record);
    await freezer.freeze();
    expect(await thaw(other)).toBe(true);
    expect(await freezer.thaw()).toMatchObject({ held: false });
    expect(await thaw(other)).toBe(false);
  });

  it('of what somebody else has frozen is refused, and leaves it frozen', async () => {
    const { container, tick } = await startWriter();
    await using other = await openFileSystem(container.record);
    const guardian = new FreezeGuardian(other.fd, join(await temporaryDirectory(), 'marker'), 60_000);
    guardian.request('f');
    await guardian.reply();
    expect(await guardian.reply()).toMatchObject({ word: 'frozen' });
    await using freezer = await Freezer.prepare(container.directory, container.record);
    await expect(freezer.freeze()).rejects.toMatchObject({ code: 'ERR_LOOPBOX_IN_USE' });
    await freezer.close();
    await expectHeld(tick);
    await guardian.close(20_000);
    await expectWriting(tick);
  });

  it('is ended at the limit, and the thaw that comes later says so', async () => {
    const { container, tick } = await startWriter();
    await using fileSystem = await openFileSystem(container.record);
    const guardian = new FreezeGuardian(fileSystem.fd, container.directory.freezingPath, 300);
    expect(await guardian.reply()).toMatchObject({ word: 'ready' });
    guardian.request('f');
    expect(await guardian.reply()).toMatchObject({ word: 'frozen' });
    const late = await guardian.reply();
    expect(late).toMatchObject({ word: 'late' });
    expect(late).toHaveProperty(
      'ms',
      expect.toSatisfy((ms: number) => ms >= 300 && ms < 5000),
    );
    await expectWriting(tick);
    guardian.request('t');
    guardian.request('s');
    expect(await guardian.reply()).toMatchObject({ word: 'synced' });
    expect(await guardian.close(20_000)).toBe(true);
    expectAtRest(container);
  });

  it('never touches another file system that the container’s first process has made its root', async () => {
    const container = await TestContainer.create();
    const record = await container.start();
    // A process with the host's root.
    await using fileSystem = await openFileSystem({ ...record, pid: process.pid });
    const inside = statSync(`/proc/self/fd/${fileSystem.fd}/bin/busybox`, { throwIfNoEntry: false });
    expect(inside?.dev).toBe(statSync(`/dev/loop${record.loop.index}`).rdev);
    const reused = { ...record, loop: { ...record.loop, diskSequence: record.loop.diskSequence + 1 } };
    await expect(openFileSystem(reused)).rejects.toMatchObject({ code: 'ERR_LOOPBOX_WRONG_STATE' });
  });
});

describe('the kernel’s expedited grace periods', () => {
  const path = '/sys/kernel/rcu_expedited';
  const expedited = () => readFileSync(path, 'utf8').trim();
  const before = expedited();
  afterEach(() => writeFileSync(path, before));

  it('are used for a freeze alone', async () => {
    const { container } = await startWriter();
    for (const value of ['0', '1']) {
      writeFileSync(path, value);
      await using freezer = await Freezer.prepare(container.directory, container.record);
      await freezer.freeze();
      // The guardian tells of the freeze first: nobody is to wait for more.
      await expect.poll(expedited).toBe(value);
      await freezer.thaw();
    }
  });

  it('are set back by the next guardian where one was killed while it used them', async () => {
    const { container } = await startWriter();
    writeFileSync(path, '1');
    writeFileSync(container.directory.freezingPath, 'e');
    await using freezer = await Freezer.prepare(container.directory, container.record);
    expect(expedited()).toBe('0');
    await freezer.close();
    expectAtRest(container);
  });

  it('are set back by the next look at the run where a guardian was killed while it used them', async () => {
    const { container } = await startWriter();
    writeFileSync(path, '1');
    writeFileSync(container.directory.freezingPath, '-');
    await inspectRun(container.directory);
    expect(expedited()).toBe('1');
    writeFileSync(container.directory.freezingPath, 'e');
    await inspectRun(container.directory);
    expect(expedited()).toBe('0');
    expectAtRest(container);
  });
});

describe('a freeze whose guardian is killed', () => {
  it('is ended by its caller at once', async () => {
    const { container, tick } = await startWriter();
    await using freezer = await Freezer.prepare(container.directory, container.record);
    await freezer.freeze();
    await killGuardian(container);
    await expectWriting(tick);
    expect(await freezer.thaw()).toMatchObject({ held: false });
    await freezer.close();
    expectAtRest(container);
  });

  it('before it began fails, and nothing is frozen', async () => {
    const { container, tick } = await startWriter();
    await using freezer = await Freezer.prepare(container.directory, container.record);
    await killGuardian(container);
    await expect(freezer.freeze()).rejects.toMatchObject({ code: 'ERR_LOOPBOX_FAILED' });
    await freezer.close();
    await expectWriting(tick);
    await inspectRun(container.directory);
    expectAtRest(container);
  });
});

describe('a freeze whose guardian and caller are both killed', () => {
  it('is ended by the next look at the run', async () => {
    const { container, tick } = await startWriter();
    await freezeAndDie(container);
    await expectHeld(tick);
    expect(await inspectRun(container.directory)).toMatchObject({ running: true });
    await expectWriting(tick);
    expectAtRest(container);
  });

  it('is ended also for a container that has ended meanwhile: its file comes free', async () => {
    const container = await TestContainer.create();
    const { pid } = await container.start();
    await freezeAndDie(container);
    await kill(pid);
    await sleep(200);
    expect(await container.isFree()).toBe(false);
    await container.reap();
    expect(await container.isFree()).toBe(true);
    expect(await container.leftovers()).toEqual([]);
  });

  it('is not in the way of the next one', async () => {
    const { container, tick } = await startWriter();
    await freezeAndDie(container);
    await inspectRun(container.directory);
    await using freezer = await Freezer.prepare(container.directory, container.record);
    await freezer.freeze();
    expect(await freezer.thaw()).toMatchObject({ held: true });
    await expectWriting(tick);
  });
});

it('a tidy-up that kills the guardian thaws, too', async () => {
  const container = await TestContainer.create();
  const { pid } = await container.start();
  await using freezer = await Freezer.prepare(container.directory, container.record);
  await freezer.freeze();
  await kill(pid);
  await container.reap();
  await freezer.close();
  expect(await container.isFree()).toBe(true);
});

/** Leaves the file system frozen, with nobody there to thaw it. */
async function freezeAndDie(container: TestContainer): Promise<void> {
  await using fileSystem = await openFileSystem(container.record);
  const guardian = new FreezeGuardian(fileSystem.fd, container.directory.freezingPath, 60_000);
  await guardian.reply();
  guardian.request('f');
  expect(await guardian.reply()).toMatchObject({ word: 'frozen' });
  await kill(guardian.pid);
  await guardian.close(20_000);
}

async function killGuardian(container: TestContainer): Promise<void> {
  const [guardian = 0] = container.processes('loopbox-freeze');
  expect(await kill(guardian)).toBe(true);
}

function expectAtRest(container: TestContainer): void {
  expect(existsSync(container.directory.freezingPath)).toBe(false);
  expect(container.processes('loopbox-freeze')).toEqual([]);
}

function sessionOf(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  return Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[3]);
}
