import { rename } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeEach, describe, expect, it } from 'vitest';
import { writeManifest } from '../../src/image/image-file';
import { openLayer } from '../../src/image/layer-file';
import type { Manifest } from '../../src/image/manifest';
import { changeDisk, contentOfState } from '../chain-view';
import type { TestStore } from '../fixtures';
import { sleep, storeWithSleeper } from '../sleeper';
import { containerFiles, expectTruth } from '../truth';

let store: TestStore;

beforeEach(async () => {
  store = await storeWithSleeper('web', '--full', '--attach', 'stack');
});

describe('rm', () => {
  it('refuses a container with snapshots, unless they shall go, too', async () => {
    await store.done('snapshot', 'create', 'web@one');
    await store.done('snapshot', 'create', 'web@two');
    const before = containerFiles(store);
    expect(await store.loopbox(['rm', 'web'])).toMatchObject({
      code: 11,
      stderr: 'loopbox: Cannot remove "web": it has snapshots: one, two\nhint: loopbox rm --snapshots web\n',
    });
    expect(containerFiles(store)).toEqual(before);
    await store.done('rm', '--snapshots', 'web');
    expect(containerFiles(store)).toEqual([]);
  });

  it('refuses what clones stand on, names them, and lets go when they are flat', async () => {
    await store.done('snapshot', 'create', 'web@one');
    await store.done('clone', '--linked', 'web@one', 'first');
    await store.done('clone', '--linked', 'web', 'second');
    const before = containerFiles(store);
    for (const args of [['web'], ['--snapshots', 'web']]) expect(await store.loopbox(['rm', ...args])).toMatchObject({ code: 11 });
    const { stderr } = await store.loopbox(['rm', '--snapshots', 'web']);
    expect(stderr).toContain('other containers stand on its files');
    expect(containerFiles(store)).toEqual(before);
    for (const flatten of /^hint: (.*)$/m.exec(stderr)?.[1]?.split('; ') ?? []) await store.done(...flatten.split(' ').slice(1));
    await store.done('rm', '--snapshots', 'web');
    expect(containerFiles(store)).toEqual(['first.img', 'second.img']);
  });

  it('of the rest of a container, whose present is gone, takes that', async () => {
    await store.done('snapshot', 'create', 'web@one');
    await store.done('snapshot', 'create', 'web@two');
    await rename(join(store.root, 'containers/web.delta'), join(store.root, 'web.delta'));
    expect(await store.done('ls')).toMatch(/^web +failed \(the rest of a container: its present is not there\)/m);
    expect(await store.loopbox(['create', 'web', '--template', 'busybox'])).toMatchObject({ code: 11 });
    expect(await store.loopbox(['rm', 'web'])).toMatchObject({ code: 11 });
    await store.done('rm', '--snapshots', 'web');
    expect(containerFiles(store)).toEqual([]);
  });
});

describe('snapshot rm', () => {
  it('of one that a clone stands on takes the name; the file goes when nobody needs it any more', async () => {
    await changeDisk(store, 'web', 'echo apples > root/fruit');
    await store.done('snapshot', 'create', 'web@one');
    await store.done('clone', '--linked', 'web@one', 'linked');
    const content = await contentOfState(store, 'linked');
    await store.done('snapshot', 'rm', 'web@one');
    expect(containerFiles(store)).toEqual(['linked.delta', 'web.delta', 'web@~1.img']);
    await expectTruth(store, { web: content, linked: content });
    expect(await store.loopbox(['rm', 'web'])).toMatchObject({ code: 11, stderr: expect.stringContaining('linked') });
    await store.done('flatten', 'linked');
    await store.done('flatten', 'web');
    expect(containerFiles(store)).toEqual(['linked.img', 'web.img']);
    await expectTruth(store, { web: content, linked: content });
  });
});

describe('template rm', () => {
  it('refuses a template that containers are linked to; --flatten-users frees them, their snapshots included', async () => {
    await store.done('create', 'linked', '--linked', '--template', 'busybox', ...sleep);
    await store.done('snapshot', 'create', 'linked@one');
    await changeDisk(store, 'linked', 'echo apples > root/fruit');
    await store.done('clone', '--linked', 'linked', 'second');
    const names = ['linked', 'linked@one', 'second', 'web'];
    const states = Object.fromEntries(await Promise.all(names.map(async (name) => [name, await contentOfState(store, name)])));
    expect(await store.loopbox(['template', 'rm', 'busybox'])).toMatchObject({
      code: 11,
      stderr:
        'loopbox: Cannot remove template "busybox": containers are linked to it: linked\nhint: loopbox template rm --flatten-users busybox\n',
    });
    expect(await store.json('template', 'inspect', 'busybox')).toMatchObject({ usedBy: ['linked'] });
    await store.done('template', 'rm', '--flatten-users', 'busybox');
    expect(await store.done('template', 'ls', '-q')).toBe('');
    await expectTruth(store, states);
  });

  it('a linked container without its template says what it needs', async () => {
    await store.done('create', 'linked', '--linked', '--template', 'busybox', ...sleep);
    const template = join(store.root, 'templates/busybox.img');
    await rename(template, join(store.root, 'elsewhere.img'));
    for (const args of [
      ['start', 'linked'],
      ['files', 'linked'],
      ['clone', 'linked', 'copy'],
    ]) {
      expect(await store.loopbox(args), args[0]).toMatchObject({ code: 13, stderr: expect.stringContaining('needs "busybox.img"') });
    }
    expect(await store.done('snapshot', 'ls', '--tree', 'linked')).toContain('needs "busybox.img", which is missing');
    await rename(join(store.root, 'elsewhere.img'), template);
    await store.done('files', 'linked');
  });
});

describe('rename', () => {
  it('takes all files of a container along, and clones go on standing on them', async () => {
    await store.done('snapshot', 'create', 'web@one');
    await store.done('clone', '--linked', 'web', 'linked');
    await changeDisk(store, 'linked', 'echo apples > root/fruit');
    const states = { web: '', 'web@one': '', linked: '' };
    for (const name of Object.keys(states) as (keyof typeof states)[]) states[name] = await contentOfState(store, name);
    await store.done('rename', 'web', 'new');
    expect(containerFiles(store)).toEqual(['linked.delta', 'new.delta', 'new@one.img']);
    await expectTruth(store, { new: states.web, 'new@one': states['web@one'], linked: states.linked });
    expect(await store.loopbox(['rename', 'new', 'linked'])).toMatchObject({ code: 11 });
    await store.done('snapshot', 'restore', 'new@one');
    expect(await contentOfState(store, 'new')).toBe(states['web@one']);
  });

  it('that was killed once the present had its new name is finished by the next command, asked for by either name', async () => {
    await store.done('snapshot', 'create', 'web@one');
    await store.done('snapshot', 'create', 'web@two');
    const content = await contentOfState(store, 'web');
    const inStore = (name: string) => join(store.root, 'containers', name);
    for (const look of [['set', 'new', '--pids', '9'], ['ls'], ['rm', '--snapshots', 'web']]) {
      const top = await openLayer(inStore('web.delta'), { write: true });
      await writeManifest(top, { ...(top.manifest as Manifest), formerly: 'web' });
      await top.close();
      await rename(inStore('web.delta'), inStore('new.delta'));
      await store.loopbox(look);
      expect([look, containerFiles(store)]).toEqual([look, ['new.delta', 'new@one.img', 'new@two.delta']]);
      await expectTruth(store, { new: content, 'new@one': content, 'new@two': content });
      await store.done('rename', 'new', 'web');
    }
  });
});
