import { statSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { beforeEach, describe, expect, it } from 'vitest';
import { Store } from '../../src/container/store';
import { StackControl } from '../../src/loop/stack-control';
import { hashOfDisk, withDisk } from '../disk-view';
import { cleanUp, seededRandom, shell, soakCount, TestStore } from '../fixtures';
import { sleep as sleeper } from '../sleeper';
import { containerFiles } from '../truth';

const minute = 60_000;

/** What each snapshot of `db` was when it was taken, and what the files that it writes hold. */
const disks = new Map<string, string>();
const files = new Map<string, string>();
let store: TestStore;

const inside = (line: string) => store.done('exec', 'db', 'sh', '-c', line);
const control = () => new StackControl(new Store(store).runDirectory('db').controlPath, 'db');

beforeEach(async () => {
  disks.clear();
  files.clear();
  store = await TestStore.create();
  await store.importBusybox('busybox', '--size', '128M');
  await store.createBusybox('db', '--full', '--attach', 'stack', '--start', ...sleeper);
});

/** Random 4k writes on a file in the container, each read back and verified soon after, until `stop` is called; that throws where one was wrong or failed. */
async function startWriting(): Promise<{ stop: () => Promise<void> }> {
  const { pid } = (await store.inspect('db')) as { pid: number };
  const file = `/proc/${pid}/root/root/fio`;
  const job = ['--name=w', `--filename=${file}`, '--size=24M', '--rw=randwrite', '--bs=4k', '--ioengine=libaio', '--direct=1'];
  const checks = ['--iodepth=8', '--verify=crc32c', '--verify_backlog=256', '--verify_fatal=1', '--verify_state_save=0'];
  const over = new AbortController();
  const write = async () => {
    while (!over.signal.aborted) await shell('fio', ...job, ...checks, '--randrepeat=0');
  };
  const writing = write();
  writing.catch(() => {});
  const stop = async () => {
    over.abort();
    await writing;
  };
  cleanUp(() => stop().catch(() => {}));
  return { stop };
}

async function snapshot(name: string, megabytes: number): Promise<void> {
  files.set(
    name,
    await inside(`dd if=/dev/urandom of=/root/${name} bs=1M count=${megabytes} conv=fsync 2>/dev/null; md5sum /root/${name}`),
  );
  await store.done('snapshot', 'create', `db@${name}`);
  disks.set(`db@${name}`, await hashOf(`db@${name}`));
}

/** What a file of the container holds on the host; 0 where it has gone. */
const ownMiB = (file: string) => (statSync(join(store.root, 'containers', file), { throwIfNoEntry: false })?.blocks ?? 0) / 2048;

const hashOf = (state: string) => withDisk(store, state, hashOfDisk);

/** Every snapshot that is left is what it was, by a reader that shares no code; and so is what the container has written. */
async function expectExact(): Promise<void> {
  for (const [state, disk] of disks) expect([state, await hashOf(state)]).toEqual([state, disk]);
  for (const [name, sum] of files) expect(await inside(`md5sum /root/${name}`)).toBe(sum);
}

async function remove(name: string): Promise<string> {
  disks.delete(`db@${name}`);
  const { code, stderr } = await store.loopbox(['snapshot', 'rm', '--wait', `db@${name}`]);
  expect([code, stderr]).toEqual([0, expect.any(String)]);
  return stderr;
}

/** The least that a snapshot's file holds while it is removed, as long as it is there. */
async function leastWhileRemoved(name: string): Promise<number> {
  const removing = remove(name);
  const over = removing.then(() => true);
  let least = Infinity;
  while (!(await Promise.race([over, sleep(2, false)]))) {
    const hidden = containerFiles(store).find((file) => file.endsWith('.fold'));
    const held = hidden === undefined ? 0 : ownMiB(hidden);
    if (held > 0) least = Math.min(least, held);
  }
  expect(await removing).toBe('');
  return least;
}

/** After its stop the container is one sound image that holds what it has written. */
async function expectPlainAtRest(): Promise<void> {
  const sums = [...files.values()];
  await store.done('stop', '-t', '0', 'db');
  await expect.poll(() => [...containerFiles(store), ...store.mergers()], { timeout: minute }).toEqual(['db.img']);
  await shell('e2fsck', '-fn', store.imageOf('db'));
  await store.done('start', 'db');
  for (const sum of sums) expect(await inside(`md5sum ${sum.split(/ +/)[1]}`)).toBe(sum);
}

describe('snapshot rm --wait of a container that writes', () => {
  it(
    'merges into the live top, into a snapshot, and into the image; the others stay exact',
    async () => {
      for (const name of ['a', 'b', 'c', 'd']) await snapshot(name, 6);
      const writer = await startWriting();
      expect(containerFiles(store)).toEqual(['db.delta', 'db@a.img', 'db@b.delta', 'db@c.delta', 'db@d.delta']);
      expect(await remove('d')).toBe('');
      expect(containerFiles(store)).toEqual(['db.delta', 'db@a.img', 'db@b.delta', 'db@c.delta']);
      await expectExact();
      expect(await remove('b')).toBe('');
      expect(containerFiles(store)).toEqual(['db.delta', 'db@a.img', 'db@c.delta']);
      await expectExact();
      expect(await remove('a')).toBe('');
      expect(containerFiles(store)).toEqual(['db.delta', 'db@c.img']);
      await expectExact();
      expect((await control().status()).layers).toHaveLength(2);
      // The last one stays below the top until that rests.
      expect(await remove('c')).toContain('"db" runs');
      await writer.stop();
      await expectExact();
      await expectPlainAtRest();
    },
    5 * minute,
  );

  it(
    'gives space back behind each batch, long before it is through',
    async () => {
      await snapshot('base', 1);
      const large = 'dd if=/dev/zero of=/root/zeroes bs=1M count=110 conv=notrunc,fsync 2>/dev/null';
      await inside(large);
      await store.done('snapshot', 'create', 'db@large');
      await snapshot('next', 1);
      expect(await leastWhileRemoved('large')).toBeLessThan(60);
      expect(ownMiB('db@next.delta')).toBeGreaterThan(105);
      await expectExact();

      await inside(large);
      await store.done('snapshot', 'create', 'db@last');
      expect(ownMiB('db@last.delta')).toBeGreaterThan(105);
      expect(await leastWhileRemoved('last')).toBeLessThan(60);
      expect(ownMiB('db.delta')).toBeGreaterThan(105);
      await expectExact();
    },
    5 * minute,
  );

  it(
    'is killed at any moment, and so is the storage server’s worker: what is left stays exact, and the next one goes on',
    async () => {
      const random = seededRandom();
      for (const name of ['first', 'kept']) await snapshot(name, 4);
      for (let round = 0; round < soakCount(20); round++) {
        const names = [0, 1, 2].map((number) => `s${round}-${number}`);
        for (const name of names) await snapshot(name, 2 + random.below(6));
        const writer = await startWriting();
        while (names.length > 0) {
          const name = names.splice(random.below(names.length), 1)[0] ?? '';
          const abort = new AbortController();
          const removing = store.loopbox(['snapshot', 'rm', '--wait', `db@${name}`], { signal: abort.signal });
          await Promise.race([sleep(60 + random.below(400)), removing]);
          if (random.below(2)) process.kill((await control().status()).worker, 'SIGKILL');
          if (random.below(3)) abort.abort();
          const { code, stderr } = await removing;
          expect([0, 137], stderr).toContain(code);
          // Killed before it took the name away, or after: only the file's name tells.
          if (containerFiles(store).some((file) => file.startsWith(`db@${name}.`))) await store.done('snapshot', 'rm', `db@${name}`);
          disks.delete(`db@${name}`);
          await expectExact();
        }
        await writer.stop();
        await inside('rm /root/s*');
        for (const file of files.keys()) if (file.startsWith('s')) files.delete(file);
      }
      await remove('first');
      await expectExact();
      await expect.poll(() => store.mergers()).toEqual([]);
      expect(containerFiles(store)).toEqual(['db.delta', 'db@kept.img']);
      await remove('kept');
      await expectPlainAtRest();
    },
    15 * minute,
  );
});
