import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeEach, describe, expect, it } from 'vitest';
import type { ContainerHistory } from '../../src/container/snapshot-list';
import { MiB } from '../../src/units';
import { changeDisk, contentOfState } from '../chain-view';
import { execute, shell, TestStore, temporaryDirectory, xfsDirectory } from '../fixtures';
import { attachedLoops } from '../loop-devices';
import { sleep } from '../sleeper';
import { containerFiles, expectTruth } from '../truth';

/** Where a store lies, and how its containers are attached. */
const places: [string, 'direct' | 'stack', () => Promise<string>][] = [
  ['ext4', 'direct', temporaryDirectory],
  ['ext4', 'stack', temporaryDirectory],
  ['XFS', 'direct', xfsDirectory],
  ['XFS', 'stack', xfsDirectory],
];

describe.each(places)('snapshots of a stopped container, on %s, attached %s', (_, attach, place) => {
  let store: TestStore;

  beforeEach(async () => {
    store = await TestStore.create(await place());
    await store.importBusybox('busybox', '--size', '128M');
    await store.createBusybox('web', '--full', '--attach', attach, '-e', 'COLOR=red', ...sleep);
  });

  it('keep what was there; restore brings back disk and config and keeps the present; rm gives the space back', async () => {
    const states: Record<string, string> = {};
    const remember = async (...names: string[]) => {
      for (const name of names) states[name] = await contentOfState(store, name);
    };
    await changeDisk(store, 'web', 'echo one > root/file');
    expect(await store.done('snapshot', 'create', 'web@one', '--description', 'the first')).toBe('web@one: stopped');
    await remember('web', 'web@one');
    expect(states['web@one']).toBe(states.web);
    await expectTruth(store, states);

    await changeDisk(store, 'web', 'echo two > root/file; rm -r var');
    await store.done('set', 'web', '-e', 'COLOR=blue');
    await store.done('snapshot', 'create', 'web@two');
    await remember('web', 'web@two');
    expect(states['web@two']).not.toBe(states['web@one']);
    await expectTruth(store, states);

    const [one, two] = (await store.json('snapshot', 'ls', 'web')) as ContainerHistory['snapshots'];
    expect(one).toMatchObject({ name: 'web@one', container: 'web', snapshot: 'one', consistency: 'stopped', description: 'the first' });
    expect(one?.file).toMatchObject({ kind: 'image', sealed: true, sizeBytes: 128 * MiB });
    expect(two?.file).toMatchObject(attach === 'direct' ? { kind: 'image', parent: null } : { kind: 'delta', parent: 'web@one' });

    const restored = (await store.json('snapshot', 'restore', 'web@one')) as { kept: string };
    expect(restored).toEqual({ name: 'web', from: 'web@one', kept: expect.stringMatching(/^web@before-restore-\d{8}-\d{6}$/) });
    states[restored.kept] = states.web ?? '';
    states.web = states['web@one'] ?? '';
    await expectTruth(store, states);
    expect(await store.inspect('web')).toMatchObject({ config: { environment: { COLOR: 'red' } } });

    await store.done('snapshot', 'restore', '--disk-only', restored.kept);
    expect(await contentOfState(store, 'web')).toBe(states[restored.kept]);
    expect(await store.inspect('web')).toMatchObject({ config: { environment: { COLOR: 'red' } } });

    await store.done('snapshot', 'rename', 'web@two', 'second');
    expect(await contentOfState(store, 'web@second')).toBe(states['web@two']);
    expect(await store.loopbox(['snapshot', 'rm', 'web@two'])).toMatchObject({ code: 10 });
    const removed = (await store.done('snapshot', 'rm', '--wait', '--oldest', '2', 'web')).split('\n');
    expect(removed).toEqual(['web@one', 'web@second']);
    expect(await contentOfState(store, restored.kept)).toBe(states['web@two']);

    await store.done('snapshot', 'rm', '--wait', ...(await store.done('snapshot', 'ls', '-q', 'web')).split('\n'));
    expect(await store.done('snapshot', 'ls', '-q')).toBe('');
    await store.done('flatten', 'web');
    expect(containerFiles(store)).toEqual(['web.img']);
    await expectTruth(store, { web: states['web@two'] ?? '' });
  });

  it('are mounted read-only, and plain umount leaves nothing', async () => {
    await changeDisk(store, 'web', 'echo one > root/file');
    await store.done('snapshot', 'create', 'web@one');
    await changeDisk(store, 'web', 'echo two > root/file');
    const directory = join(await temporaryDirectory(), 'old');
    expect(await store.loopbox(['snapshot', 'mount', 'web@one', directory])).toMatchObject({ code: 10 });
    await mkdir(directory);
    await store.done('snapshot', 'mount', 'web@one', directory);
    const devices = () => attachedLoops().filter(({ backingFile }) => backingFile.startsWith(store.root));
    try {
      expect(await shell('cat', join(directory, 'root/file'))).toBe('one');
      expect((await execute('touch', [join(directory, 'root/file')])).stderr).toContain('Read-only');
      expect(devices()).toHaveLength(1);
      // Its name goes at once, its file when nobody looks into it any more.
      await store.done('snapshot', 'rm', '--wait', 'web@one');
      expect(await shell('cat', join(directory, 'root/file'))).toBe('one');
    } finally {
      await shell('umount', directory);
    }
    await expect.poll(devices).toEqual([]);
    await store.done('snapshot', 'create', 'web@three');
    expect(containerFiles(store)).toEqual(
      attach === 'direct' ? ['web.img', 'web@three.img'] : ['web.delta', 'web@three.delta', 'web@~1.img'],
    );
  });

  it('are named by their time where no name is given', async () => {
    const names = [await store.done('snapshot', 'create', '-q', 'web'), await store.done('snapshot', 'create', '-q', 'web')];
    for (const name of names) expect(name).toMatch(/^web@auto-\d{8}-\d{6}(-2)?$/);
    expect(new Set(names).size).toBe(2);
    expect(await store.done('snapshot', 'ls', '-q')).toBe(names.join('\n'));
  });
});

describe('snapshot', () => {
  it('refuses what makes no sense, and leaves all as it was', async () => {
    const store = await TestStore.create();
    await store.importBusybox('busybox', '--size', '128M');
    await store.createBusybox('web', '--full', ...sleep);
    await store.done('snapshot', 'create', 'web@one');
    const before = containerFiles(store);
    const file = store.fileOf('web');
    for (const [args, code, words] of [
      [['create', 'web@one'], 11, 'exists'],
      [['create', 'web@No'], 2, 'snapshot name'],
      [['create', 'nope@one'], 10, 'does not exist'],
      [['create', file], 2, 'loopbox import'],
      [['rename', 'web@one', 'one'], 2, 'has this name'],
      [['rename', 'web@two', 'three'], 10, 'loopbox snapshot ls web'],
      [['rename', 'web', 'three'], 2, 'names no snapshot'],
      [['rm', 'web'], 2, 'names no snapshot'],
      [['rm', '--oldest', 'x', 'web'], 2, 'whole number'],
      [['restore', 'web@two'], 10, 'does not exist'],
      [['mount', 'web@two', '/'], 10, 'does not exist'],
      [['ls', 'nope'], 10, 'does not exist'],
    ] as [string[], number, string][]) {
      const result = await store.loopbox(['snapshot', ...args]);
      expect([args, result.code, result.stderr]).toEqual([args, code, expect.stringContaining(words)]);
    }
    expect(containerFiles(store)).toEqual(before);
  });

  it('ls shows all containers that have a past, --tree what stands on what', async () => {
    const store = await TestStore.create();
    await store.importBusybox('busybox', '--size', '128M');
    await store.createBusybox('plain', ...sleep);
    await store.createBusybox('web', '--full', '--attach', 'stack', ...sleep);
    await store.done('snapshot', 'create', 'web@one');
    await store.done('snapshot', 'create', 'web@two');
    await store.done('snapshot', 'restore', 'web@one');
    const kept = (await store.done('snapshot', 'ls', '-q', 'web')).split('\n').at(-1);
    expect(await store.done('snapshot', 'ls')).toMatch(
      /^SNAPSHOT +CREATED +CONSISTENCY +SIZE +OWN +FILE +STANDS ON +USED BY\nweb@one .*stopped +128 MiB .* image +- +web web@two\nweb@two .* delta +web@one +web@before-.*\nweb@before-.* delta +web@two +-$/,
    );
    const sizes = (text: string) => text.replace(/, [\d.]+ [KM]iB/g, '');
    expect(sizes(await store.done('snapshot', 'ls', '--tree'))).toBe(
      `web@one (image)\n├─ web (delta)\n└─ web@two (delta)\n   └─ ${kept} (delta)`,
    );
    expect(await store.done('inspect', 'web')).toContain('Files:\n  web@one (image, ');
    expect((await store.inspect('web')).files).toEqual(
      ['web.delta', 'web@one.img', 'web@two.delta', `${kept}.delta`].map((name) => join(store.root, 'containers', name)),
    );
    expect(await store.done('df')).toMatch(/^plain .* 0 B\nweb .* [\d.]+ MiB$/m);
  });
});
