import { beforeAll, describe, expect, it } from 'vitest';
import type { CreatedSnapshot } from '../../src/container/snapshot-options';
import { contentOfState } from '../chain-view';
import { shell, TestStore, xfsDirectory } from '../fixtures';
import { hostExtents } from '../image-view';
import { sleep, storeWithSleeper } from '../sleeper';
import { containerFiles, expectTruth } from '../truth';
import { inside } from '../web-container';

describe('snapshots of a running container, attached direct, on a host with reflinks', () => {
  let store: TestStore;

  beforeAll(async () => {
    store = await TestStore.create(await xfsDirectory());
    await store.importBusybox('busybox', '--size', '128M');
    await store.runBusybox('web', ...sleep);
  });

  const take = async (...args: string[]) => (await store.json('snapshot', 'create', ...args)) as CreatedSnapshot;

  it('are whole images that need no journal, and share their blocks', async () => {
    await inside(store, 'web', 'head -c 20000000 /dev/urandom > /root/big; echo one > /root/file');
    const snapshot = await take('web@one');
    expect(snapshot).toMatchObject({ name: 'web@one', consistency: 'filesystem', how: 'reflink', frozenMs: expect.any(Number) });
    await inside(store, 'web', 'echo two > /root/file');
    await shell('e2fsck', '-fn', snapshot.path);
    expect(await shell('dumpe2fs', '-h', snapshot.path)).not.toMatch(/^Filesystem features:.* needs_recovery/m);
    const { allocatedBytes, sharedBytes } = await hostExtents(snapshot.path);
    expect(sharedBytes).toBeGreaterThan(20_000_000);
    expect(allocatedBytes - sharedBytes).toBeLessThan(1_000_000);
    expect(await contentOfState(store, 'web@one')).toContain('./root/file');
    expect(await store.done('exec', 'web', 'cat', '/root/file')).toBe('two');
  });

  it('run hooks inside before and after, and say so; one that fails leaves no snapshot', async () => {
    const snapshot = await take('web@hooked', '--pre', 'echo pre > /root/hook', '--post', 'echo post > /root/hook');
    expect(snapshot).toMatchObject({ consistency: 'application', hooks: { pre: 0, post: 0 } });
    expect(await store.done('exec', 'web', 'cat', '/root/hook')).toBe('post');
    const before = containerFiles(store);
    const failed = await store.loopbox(['snapshot', 'create', 'web@failed', '--pre', 'exit 3', '--post', 'echo late > /root/hook']);
    expect(failed).toMatchObject({ code: 1, stdout: '', stderr: expect.stringContaining('its pre hook ended with 3') });
    expect(containerFiles(store)).toEqual(before);
    expect(await store.done('exec', 'web', 'cat', '/root/hook')).toBe('late');
  });

  it('restore wants --restart, which starts it again with what was', async () => {
    await inside(store, 'web', 'echo before > /root/file');
    await take('web@before');
    await inside(store, 'web', 'echo after > /root/file');
    expect(await store.loopbox(['snapshot', 'restore', 'web@before'])).toMatchObject({
      code: 11,
      stderr: expect.stringContaining('hint: loopbox snapshot restore --restart web@before'),
    });
    const kept = /what it was is (\S+)$/.exec(await store.done('snapshot', 'restore', '--restart', '-t', '0', 'web@before'))?.[1] ?? '';
    expect(await store.done('exec', 'web', 'cat', '/root/file')).toBe('before');
    await store.done('stop', '-t', '0', 'web');
    const states: Record<string, string> = {};
    for (const name of ['web', ...(await store.done('snapshot', 'ls', '-q', 'web')).split('\n')]) {
      states[name] = await contentOfState(store, name);
    }
    expect(Object.keys(states)).toContain(kept);
    expect(states[kept]).not.toBe(states['web@before']);
    await expectTruth(store, states);
  });
});

describe('on a host without reflinks', () => {
  it('a running container, attached direct, has no snapshots: 15, with the way to them', async () => {
    const store = await storeWithSleeper('web', '--attach', 'direct', '--start');
    const before = containerFiles(store);
    expect(await store.loopbox(['snapshot', 'create', 'web@one'])).toMatchObject({
      code: 15,
      stdout: '',
      stderr: expect.stringContaining('hint: loopbox set --attach stack web'),
    });
    expect(containerFiles(store)).toEqual(before);
    expect(await store.done('exec', 'web', 'echo', 'alive')).toBe('alive');
  });
});
