import { setTimeout as sleep } from 'node:timers/promises';
import { beforeEach, describe, expect, it } from 'vitest';
import { type SeededRandom, seededRandom, soakCount } from '../counts';
import { hashOfDisk, withDisk } from '../disk-view';
import { execute, TestStore } from '../fixtures';
import { sleep as untilStopped } from '../sleeper';
import { findVictims, kill } from '../victims';

const minute = 60_000;
const kills = soakCount(300);
const killsASnapshot = 10;
const nsPerMs = 1e6;

interface Job {
  error: number;
  read: { clat_ns: { max: number } };
  write: { clat_ns: { max: number } };
}

let store: TestStore;

beforeEach(async () => {
  store = await TestStore.create();
  await store.importBusybox('busybox', '--size', '128M');
  await store.createBusybox('c', '--full', '--attach', 'stack', '--start', ...untilStopped);
});

describe.each([1, 16, 128])('a file in a container that fio writes past the page cache at depth %i, and verifies,', (depth) => {
  it(
    'is what was written, while the worker of its disk is killed over and over, and after a restart',
    async () => {
      const random = seededRandom();
      await writeDuring(depth, () => killWorkers(random, kills));

      const killing = new AbortController();
      const [killed] = await Promise.all([
        killWorkers(random, kills, killing),
        fio(depth, '--randseed=1', '--do_verify=0', '--end_fsync=1').finally(() => killing.abort()),
      ]);
      expect(killed).toBeGreaterThan(0);
      await store.done('restart', '-t', '0', 'c');
      await fio(depth, '--randseed=1', '--verify_only');
    },
    10 * minute,
  );

  it(
    'is that also while snapshots are taken, and they stay what they were',
    async () => {
      const random = seededRandom();
      const taken = new Map<string, string>();
      await writeDuring(depth, async () => {
        for (let killed = 0; killed < kills; killed += killsASnapshot) {
          const snapshot = `c@${killed}`;
          await Promise.all([killWorkers(random, killsASnapshot), store.done('snapshot', 'create', snapshot)]);
          taken.set(snapshot, await withDisk(store, snapshot, hashOfDisk));
        }
      });
      await store.done('stop', '-t', '0', 'c');
      for (const [snapshot, hash] of taken) expect([snapshot, await withDisk(store, snapshot, hashOfDisk)]).toEqual([snapshot, hash]);
    },
    10 * minute,
  );
});

/** Writes and verifies from the beginning of `body` to its end; prints how long the slowest request has taken. */
async function writeDuring(depth: number, body: () => Promise<unknown>): Promise<void> {
  const over = new AbortController();
  const longestMs: number[] = [];
  const writing = (async () => {
    while (!over.signal.aborted) longestMs.push(await fio(depth, '--time_based', '--runtime=2', '--randrepeat=0', '--verify_backlog=512'));
  })();
  await Promise.all([body().finally(() => over.abort()), writing]);
  console.log(`Depth ${depth}: the longest request has taken ${Math.max(...longestMs).toFixed(0)} ms`);
}

/** One run of fio on a file of the container; returns the milliseconds of its longest request. Rejects with the first error or wrong block. */
async function fio(depth: number, ...args: string[]): Promise<number> {
  const { pid } = (await store.inspect('c')) as { pid: number };
  const job = ['--name=verify', `--filename=/proc/${pid}/root/file`, '--size=24m', '--rw=randwrite', '--bs=4k', `--iodepth=${depth}`];
  const common = [
    '--ioengine=libaio',
    '--direct=1',
    '--verify=crc32c',
    '--verify_fatal=1',
    '--verify_state_save=0',
    '--output-format=json',
  ];
  const { code, stdout, stderr } = await execute('fio', [...job, ...common, ...args], { timeoutMs: 5 * minute });
  expect([code, stderr]).toEqual([0, '']);
  const { jobs } = JSON.parse(stdout) as { jobs: Job[] };
  expect(jobs.map(({ error }) => error)).toEqual([0]);
  return Math.max(...jobs.flatMap(({ read, write }) => [read.clat_ns.max, write.clat_ns.max])) / nsPerMs;
}

/** Kills the worker each 100 to 300 ms; returns how often. */
async function killWorkers(random: SeededRandom, count: number, { signal } = new AbortController()): Promise<number> {
  let killed = 0;
  while (killed < count && !signal.aborted) {
    await sleep(100 + random.below(200));
    const [worker] = findVictims(store, 'worker');
    if (worker !== undefined && (await kill(worker))) killed++;
  }
  return killed;
}
