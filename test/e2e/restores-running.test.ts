import { readdirSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { beforeEach, describe, expect, it } from 'vitest';
import { Store } from '../../src/container/store';
import { StackControl } from '../../src/loop/stack-control';
import { contentOfState } from '../chain-view';
import { seededRandom, soakCount, TestStore } from '../fixtures';
import { heldByKernel, keptOnHost } from '../remains';
import { sleep as sleeper } from '../sleeper';
import { containerFiles } from '../truth';

const minute = 60_000;
const restore = ['snapshot', 'restore', '--restart', '-t', '0'];

let store: TestStore;

const inside = (line: string) => store.done('exec', 'db', 'sh', '-c', line);
const note = (text: string) => inside(`echo ${text} | dd of=/root/note conv=fsync 2>/dev/null`);
const read = () => inside('cat /root/note');
const color = () => inside('echo $COLOR');
/** The oldest first, also of those of one second: `…-TIME`, `…-TIME-2`. */
const kept = () =>
  containerFiles(store)
    .flatMap((file) => /^(db@before-restore-[^.]*)\./.exec(file)?.[1] ?? [])
    .sort();

beforeEach(async () => {
  store = await TestStore.create();
  await store.importBusybox('busybox', '--size', '128M');
  await store.createBusybox('db', '--full', '--attach', 'stack', '-e', 'COLOR=red', '--start', ...sleeper);
  await note('old');
  await store.done('snapshot', 'create', 'db@s');
  await store.done('set', 'db', '-e', 'COLOR=blue');
  await note('new');
});

describe('snapshot restore of a container that runs by the storage server', () => {
  it('is refused without --restart, and all goes on', async () => {
    const { code, stderr } = await store.loopbox(['snapshot', 'restore', 'db@s']);
    expect([code, stderr]).toEqual([
      11,
      'loopbox: Cannot restore "db@s": "db" is running\nhint: loopbox snapshot restore --restart db@s\n',
    ]);
    expect(await read()).toBe('new');
  });

  it('stops it, brings back disk and config, starts it, and keeps what it was', async () => {
    const [name, ...others] = (await store.done(...restore, 'db@s')).split('; what it was is ');
    expect([name, others]).toEqual(['db: restored', kept()]);
    expect([await read(), await color()]).toEqual(['old', 'red']);
    const { layers } = await new StackControl(new Store(store).runDirectory('db').controlPath, 'db').status();
    expect(layers).toHaveLength(2);

    await note('newer');
    expect(await contentOfState(store, kept()[0] ?? '')).not.toBe(await contentOfState(store, 'db@s'));
    await store.done(...restore, kept()[0] ?? '');
    expect([await read(), await color()]).toEqual(['new', 'blue']);
    expect(kept()).toHaveLength(2);
    await store.done(...restore, kept()[1] ?? '');
    expect([await read(), await color()]).toEqual(['newer', 'red']);
  });

  it('keeps the config of the present with --disk-only', async () => {
    await store.done(...restore, '--disk-only', 'db@s');
    expect([await read(), await color()]).toEqual(['old', 'blue']);
  });

  it(
    'is killed at any moment: the container is the old one or the restored one, nothing else is left, and the repeated command comes through',
    async () => {
      const random = seededRandom();
      const begun = performance.now();
      await store.done(...restore, 'db@s');
      const usualMs = performance.now() - begun;
      await store.done('snapshot', 'rm', '--wait', ...kept());
      for (let round = 0; round < soakCount(60); round++) {
        const text = `round${round}`;
        await note(text);
        const abort = new AbortController();
        const delayMs = random.below(usualMs);
        const restoring = store.loopbox([...restore, 'db@s'], { signal: abort.signal });
        await Promise.race([sleep(delayMs), restoring]);
        abort.abort();
        await restoring;
        await expect.poll(async () => (await store.loopbox(['ls'])).code).toBe(0);
        await store.loopbox(['stop', '-t', '0', 'db']);
        const left = async () => {
          await store.done('ls');
          return [...heldByKernel(store), ...keptOnHost(store)];
        };
        await expect.poll(left).toEqual([]);
        const before = kept();
        await store.done('start', 'db');
        expect([delayMs, await read()]).toEqual([delayMs, before.length > 0 ? 'old' : text]);
        await store.done(...restore, 'db@s');
        expect(await read()).toBe('old');
        expect(kept()).toHaveLength(before.length + 1);
        await store.done(...restore, kept()[0] ?? '');
        expect(await read()).toBe(text);
        await store.done('snapshot', 'rm', '--wait', ...kept());
        await store.done(...restore, '--disk-only', 'db@s');
        await store.done('snapshot', 'rm', '--wait', ...kept());
        expect(readdirSync(`${store.root}/containers`).filter((file) => /next|tmp/.test(file))).toEqual([]);
      }
    },
    10 * minute,
  );
});
