import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { beforeEach, describe, expect, it } from 'vitest';
import { FileLock, takeVerbLock } from '../../src/container/locks';
import { Store } from '../../src/container/store';
import { isMergedUnasked } from '../../src/container/unasked';
import { contentOfState, manifestOf } from '../chain-view';
import { chainedContainer } from '../chained-container';
import { seededRandom, soakCount, TestStore } from '../fixtures';
import { listContent } from '../image-view';
import { heldByKernel, keptOnHost } from '../remains';
import { sleep as sleeper } from '../sleeper';
import { containerFiles, expectTruth } from '../truth';
import { kill } from '../victims';

const minute = 60_000;
/** A machine that is busy with other tests takes its time. */
const bySomeTime = { timeout: 30_000, interval: 50 };

let store: TestStore;

const inside = (line: string) => store.done('exec', 'db', 'sh', '-c', line);
const content = () => inside(listContent);
const write = (name: string, megabytes: number) =>
  inside(`dd if=/dev/urandom of=/root/${name} bs=1M count=${megabytes} conv=fsync 2>/dev/null`);
const alone = async (file: string) => {
  await expect.poll(() => [...containerFiles(store), ...store.mergers()], bySomeTime).toEqual([file]);
};
const stop = () => store.done('stop', '-t', '0', 'db');
const isMerging = () => store.mergers().length > 0;
const folds = () => containerFiles(store).filter((name) => name.endsWith('.fold'));

/** Leaves a container that runs on a delta, on a nameless image, with a few files of its own. */
async function runOnDelta(megabytes = 8, how = '--full'): Promise<void> {
  await store.createBusybox('db', how, '--attach', 'stack', '--start', ...sleeper);
  await write('before', 1);
  await store.done('snapshot', 'create', 'db@gone');
  await write('after', megabytes);
  await inside('rm /root/before');
  await store.done('snapshot', 'rm', 'db@gone');
  // What is linked may be merged while it runs.
  const whole = how === '--full' ? 1 : 0;
  expect(containerFiles(store).slice(0, 1 + whole)).toEqual(['db.delta', ...Array<string>(whole).fill('db@~1.img')]);
}

/** How long a command waits for the container. */
async function waitedMs(): Promise<number> {
  const begun = performance.now();
  await using _lock = await takeVerbLock(new Store(store).verbLockPath('db'), 'db');
  return performance.now() - begun;
}

/** Brings the process that merges to a standstill in the middle of a batch, or between two. */
async function haltMerger(pid: number, inBatch: boolean): Promise<void> {
  // 0 stands for the tests themselves.
  expect(pid).toBeGreaterThan(0);
  const verbLock = new Store(store).verbLockPath('db');
  for (process.kill(pid, 'SIGSTOP'); FileLock.isHeld(verbLock) !== inBatch; process.kill(pid, 'SIGSTOP')) {
    process.kill(pid, 'SIGCONT');
    await sleep(7);
  }
}

/** Nothing of a container that rests is left on the host but its files. */
async function expectAtRest(): Promise<void> {
  await expect.poll(isMerging, bySomeTime).toBe(false);
  await store.done('ls');
  await expect.poll(() => [...heldByKernel(store), ...keptOnHost(store)], bySomeTime).toEqual([]);
  await expect.poll(isMerging, bySomeTime).toBe(false);
}

beforeEach(async () => {
  store = await TestStore.create();
  await store.importBusybox('busybox', '--size', '512M');
});

describe('a container without snapshots', () => {
  it('is one file again some moments after its stop, which does not wait for that; ls and df tell of it until then', {
    timeout: 2 * minute,
  }, async () => {
    await runOnDelta(120);
    const before = await content();
    await stop();
    // From then on it is nobody else's.
    await expect.poll(() => isMergedUnasked(new Store(store).verbLockPath('db')), { interval: 5 }).toBe(true);
    const [pid = 0] = store.mergers();
    await haltMerger(pid, false);
    const [list, df] = await Promise.all([store.json('ls'), store.done('df')]);
    expect(list).toMatchObject([{ state: 'stopped', pending: expect.stringMatching(/^(fold|reclaim)$/) }]);
    expect(df).toMatch(/^db: (fold|reclaim) pending$/m);
    process.kill(pid, 'SIGCONT');
    await alone('db.img');
    await expectTruth(store, { db: before });
    expect(await store.json('ls')).not.toHaveProperty('0.pending');
    await expectAtRest();
    await store.done('start', 'db');
    expect(await content()).toBe(before);
  });

  it('is settled by a process of the lowest priority, in no cgroup or session of its caller', async () => {
    await runOnDelta(128);
    await stop();
    await expect.poll(isMerging, { interval: 5 }).toBe(true);
    const [pid = 0] = store.mergers();
    const fields = () => readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.split(' ') ?? [];
    // Programs that begin it so are executed before.
    await expect.poll(() => fields()[16], { interval: 5 }).toBe('19');
    expect(fields()[3]).toBe(String(pid));
    const cgroups = readFileSync(`/proc/${pid}/cgroup`, 'utf8').trim().split('\n');
    expect(cgroups.filter((line) => !line.endsWith(':/'))).toEqual([]);
    await alone('db.img');
  });

  it(
    'keeps no command waiting',
    async () => {
      const random = seededRandom();
      await runOnDelta(120);
      const before = await content();
      await stop();
      for (let round = 0; round < 15; round++) {
        await store.done('ls');
        await sleep(random.below(200));
        expect(await waitedMs()).toBeLessThan(5000);
      }
      await store.done('ls');
      await alone('db.img');
      await expectTruth(store, { db: before });
    },
    2 * minute,
  );

  it('is told as what it is by every ls meanwhile', async () => {
    await runOnDelta(64);
    await stop();
    do expect(await store.json('ls')).toMatchObject([{ name: 'db', state: 'stopped' }]);
    while (containerFiles(store).length > 1);
  });

  it('starts at once in the middle, with all that it had, and settles later', { timeout: 5 * minute }, async () => {
    await runOnDelta(120);
    let before = await content();
    for (let round = 0; round < 3; round++) {
      await stop();
      const began = () => folds().length > 0 || containerFiles(store).length === 1;
      await expect.poll(began, { ...bySomeTime, interval: 2 }).toBe(true);
      await sleep(100 * round);
      await store.done('start', 'db');
      expect(await content()).toBe(before);
      await write(`round${round}`, 4);
      before = await content();
      await store.done('restart', '-t', '0', 'db');
      expect(await content()).toBe(before);
    }
    await stop();
    await alone('db.img');
    await expectTruth(store, { db: before });
    await expectAtRest();
  });

  it('starts at once also where the process that settles it has come to a standstill', { timeout: 2 * minute }, async () => {
    await runOnDelta(150);
    const before = await content();
    await stop();
    await expect.poll(() => folds().length, { ...bySomeTime, interval: 2 }).toBe(1);
    const [pid = 0] = store.mergers();
    await haltMerger(pid, true);
    expect(await waitedMs()).toBeLessThan(5000);
    expect(isMerging()).toBe(false);
    await store.done('start', 'db');
    expect(await content()).toBe(before);
    await stop();
    await alone('db.img');
    await expectTruth(store, { db: before });
  });

  it(
    'is settled by a process that is killed at any moment: ls has it go on, and it comes through at last',
    async () => {
      const random = seededRandom();
      await runOnDelta(100);
      for (let round = 0; round < soakCount(40); round++) {
        const before = await content();
        await stop();
        for (let kills = 0; kills < 4 && containerFiles(store).length > 1; kills++) {
          await store.done('ls');
          await sleep(random.below(300));
          for (const pid of store.mergers()) await kill(pid);
        }
        await store.done('ls');
        await alone('db.img');
        await expectTruth(store, { db: before });
        await store.done('start', 'db');
        await store.done('snapshot', 'create', 'db@gone');
        await write('after', 20 + random.below(40));
        await store.done('snapshot', 'rm', 'db@gone');
      }
    },
    10 * minute,
  );

  it('is settled by the next look where it ended by itself', async () => {
    await runOnDelta(8);
    const before = await content();
    const { pid } = await store.inspect('db');
    process.kill(pid as number, 'SIGKILL');
    await expect.poll(async () => (await store.inspect('db')).state).toBe('failed');
    await sleep(300);
    expect(containerFiles(store)).toEqual(['db.delta', 'db@~1.img']);
    await store.done('ls');
    await alone('db.img');
    await expectTruth(store, { db: before });
  });

  it('stays what it is where its config says never, until settle is called', async () => {
    await runOnDelta(8);
    await store.done('set', 'db', '--settle', 'never');
    const before = await content();
    await stop();
    await store.done('ls');
    await sleep(1000);
    expect(isMerging()).toBe(false);
    expect(containerFiles(store)).toEqual(['db.delta', 'db@~1.img']);
    await store.done('settle', 'db');
    expect(containerFiles(store)).toEqual(['db.img']);
    await expectTruth(store, { db: before });
  });

  it('that is linked is one delta again', async () => {
    await runOnDelta(8, '--linked');
    const before = await content();
    await stop();
    await alone('db.delta');
    expect(manifestOf(store.imageOf('db').replace('.img', '.delta'))).toMatchObject({ kind: 'delta', parent: { hint: 'busybox.img' } });
    await expectTruth(store, { db: before });
    await expectAtRest();
  });
});

describe('a container with snapshots', () => {
  it('is left alone by stop and ls; settle makes it one image, each snapshot a delta, and exact', async () => {
    store = await chainedContainer();
    await store.done('start', 'web');
    await store.done('exec', 'web', 'sh', '-c', 'echo live | dd of=/root/live conv=fsync 2>/dev/null');
    await store.done('stop', '-t', '0', 'web');
    const states: Record<string, string> = {};
    for (const name of ['web', 'web@mon', 'web@tue']) states[name] = await contentOfState(store, name);
    const before = containerFiles(store);
    await store.done('ls');
    await sleep(500);
    expect(isMerging()).toBe(false);
    expect(containerFiles(store)).toEqual(before);
    await expectTruth(store, states);

    await store.done('settle', 'web');
    expect(containerFiles(store)).toEqual(['web.img', 'web@mon.delta', 'web@tue.delta']);
    await expectTruth(store, states);

    // What its start freezes has no name, and is nobody's but the present's once it rests.
    await store.done('start', 'web');
    await store.done('stop', '-t', '0', 'web');
    await store.done('snapshot', 'rm', 'web@mon', 'web@tue');
    await expect.poll(() => [...containerFiles(store), ...store.mergers()], bySomeTime).toEqual(['web.img']);
    await expectTruth(store, { web: states.web ?? '' });
    expect(
      existsSync(`${store.root}/.locks`) ? readdirSync(`${store.root}/.locks`).filter((name) => name.startsWith('settle@')) : [],
    ).toEqual([]);
  });
});
