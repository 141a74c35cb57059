import { linkSync, mkdirSync, readFileSync, renameSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { shell, TestStore, temporaryDirectory } from '../fixtures';
import { checksum, uuidOf, withStockMount } from '../image-view';
import { createWeb, expectSays, inside, stopAll, templateOf, write } from '../web-container';

describe('a file dropped into containers/', () => {
  let store: TestStore;

  beforeAll(async () => {
    store = await TestStore.create();
    await store.importBusybox('busybox', '--size', '128M');
  });

  it('is a container, from another store too', async () => {
    const other = await TestStore.create(await temporaryDirectory());
    mkdirSync(join(other.root, 'containers'), { recursive: true });
    await createWeb(store, '--full');
    await shell('cp', store.imageOf('web'), other.imageOf('web'));
    const { containerId, config } = await store.inspect('web');
    await store.done('rm', 'web');

    expect(await other.inspect('web')).toMatchObject({ name: 'web', state: 'created', containerId, config });
    expect(await other.loopbox(['start', 'web'])).toMatchObject({ code: 0, stdout: 'web\n', stderr: '' });
    await expectSays(other, 'web', 'green alice /tmp web');
    expect((await other.inspect('web')).containerId).toBe(containerId);
    await other.done('stop', '-t', '0', 'web');
    rmSync(other.imageOf('web'));
    expect(await other.done('ls', '-q')).toBe('');
  });

  it('that is taken away while it runs goes on, and is listed, until it is stopped', async () => {
    await createWeb(store, '--full');
    await store.done('start', 'web');
    const away = join(store.root, 'web.away');
    renameSync(store.imageOf('web'), away);
    expect(await store.done('ps')).toMatch(/^web +running \(its file was taken away\) +\d+ /m);
    expect(await store.inspect('web')).toMatchObject({ state: 'running', reason: 'its file was taken away', files: [] });
    await write(store, 'web', 'apples');
    for (const args of [
      ['create', 'web', '--template', 'busybox'],
      ['import', templateOf(store), 'web'],
    ]) {
      expect(await store.loopbox(args)).toMatchObject({ code: 11, stderr: expect.stringContaining('whose file was taken away runs') });
    }
    await store.done('stop', '-t', '0', 'web');
    expect(await store.loopbox(['inspect', 'web'])).toMatchObject({ code: 10 });
    expect(await store.loopbox(['stop', 'web'])).toMatchObject({ code: 10 });
    expect(await withStockMount(away, async (directory) => readFileSync(join(directory, 'var/lib/data'), 'utf8'))).toBe('apples\n');
    rmSync(away);

    // What the former one of the name left on the host is not taken for the next one's.
    await createWeb(store, '--full');
    expect(await store.inspect('web')).toMatchObject({ state: 'created', exitCode: null, startedAt: null });
    expect(await store.done('logs', 'web')).toBe('');
    await store.done('rm', 'web');
  });

  it('takes the name of its file where no other container has its identity', async () => {
    await createWithIdentity(store, 'first');
    const before = await identityOf(store, 'first');
    renameSync(store.imageOf('first'), store.imageOf('second'));
    expect(await store.loopbox(['start', 'second'])).toMatchObject({ code: 0, stderr: '' });
    await store.done('stop', '-t', '0', 'second');
    expect(await identityOf(store, 'second')).toEqual(before);

    // Its manifest says so: a copy under the old name is now the one that is a copy.
    await shell('cp', store.imageOf('second'), store.imageOf('first'));
    expect((await store.loopbox(['start', 'first'])).stderr).toBe('warning: "first" is a copy of "second": it gets a new identity\n');
    await store.done('rm', '-f', 'first', 'second');
  });

  it('gets a new identity where it is a copy of a container beside it, which keeps its own', async () => {
    await createWithIdentity(store, 'one');
    await shell('cp', store.imageOf('one'), store.imageOf('two'));
    expect((await store.done('ls', '-q')).split('\n')).toEqual(['one', 'two']);
    const before = await identityOf(store, 'one');
    expect(await identityOf(store, 'two')).toEqual(before);

    await store.done('start', 'one');
    const started = await store.loopbox(['start', 'two']);
    expect(started).toMatchObject({ code: 0, stderr: 'warning: "two" is a copy of "one": it gets a new identity\n' });
    expect(await inside(store, 'two', 'cat /etc/hostname /proc/sys/kernel/hostname /var/lib/data')).toBe('two\ntwo\ndata of one');
    await stopAll(store);
    expect(await identityOf(store, 'one')).toEqual(before);
    const after = await identityOf(store, 'two');
    expect(after.machineId).toBe('');
    expect(after.hostname).toBe('two');
    expect(after.container).not.toBe(before.container);
    expect(after.uuid).not.toBe(before.uuid);

    expect(await store.loopbox(['restart', '-t', '0', 'one', 'two'])).toMatchObject({ code: 0, stderr: '' });
    await stopAll(store);
    expect(await identityOf(store, 'two')).toEqual(after);
    await store.done('rm', 'one', 'two');
  });

  it('keeps being the copy when it is renamed, also to the name that its manifest bears', async () => {
    await createWithIdentity(store, 'one');
    await shell('cp', store.imageOf('one'), store.imageOf('two'));
    const before = await identityOf(store, 'one');
    await store.done('rename', 'one', 'three');
    await store.done('rename', 'two', 'one');
    expect((await store.loopbox(['start', 'three'])).stderr).toBe('');
    expect((await store.loopbox(['start', 'one'])).stderr).toBe('warning: "one" is a copy of "three": it gets a new identity\n');
    await stopAll(store);
    expect(await identityOf(store, 'three')).toEqual(before);
    expect((await identityOf(store, 'one')).container).not.toBe(before.container);
    await store.done('rm', 'one', 'three');
  });

  it('starts unsealed with an identity of its own where it is a template, which stays as it is', async () => {
    const template = templateOf(store);
    const before = await checksum(template);
    for (const name of ['dropped', 'again']) {
      await shell('cp', template, store.imageOf(name));
      await store.done('set', name, '--', 'sleep', '1000');
      expect(await store.loopbox(['start', name])).toMatchObject({ code: 0, stdout: `${name}\n` });
      expect(await inside(store, name, 'touch /var/lib/new; cat /etc/machine-id /etc/hostname')).toBe(name);
    }
    await stopAll(store);
    const [dropped, again] = [await identityOf(store, 'dropped'), await identityOf(store, 'again')];
    expect(dropped.container).toMatch(/^[0-9a-f-]{36}$/);
    expect(dropped.container).not.toBe(again.container);
    expect(new Set([uuidOf(template), dropped.uuid, again.uuid]).size).toBe(3);
    expect(await checksum(template)).toBe(before);
    await store.done('create', 'fine', '--template', 'busybox');
    await store.done('rm', 'dropped', 'again', 'fine');
  });

  it('starts writable, as a container of its own, where it is the delta of a snapshot', async () => {
    await store.done('create', 'origin', '--template', 'busybox', '--linked', '--', 'sleep', 'infinity');
    await store.done('snapshot', 'create', 'origin@one');
    await store.done('snapshot', 'create', 'origin@two');
    const [snapshot, dropped] = ['origin@two.delta', 'dropped.delta'].map((name) => join(store.root, 'containers', name)) as [
      string,
      string,
    ];
    const before = await checksum(snapshot);
    await shell('cp', '--sparse=always', snapshot, dropped);
    await store.done('start', 'dropped');
    await store.done('exec', 'dropped', 'sh', '-c', 'echo mine > /mine && sync');
    await store.done('stop', '-t', '0', 'dropped');
    expect((await store.inspect('dropped')).containerId).not.toBe((await store.inspect('origin')).containerId);
    expect(await checksum(snapshot)).toBe(before);
    await store.done('rm', 'dropped');
    await store.done('rm', '--snapshots', 'origin');
  });

  it('is refused where it is a hard link to a template, until it is copied as the hint says', async () => {
    const template = templateOf(store);
    const before = await checksum(template);
    linkSync(template, store.imageOf('linked'));
    for (const args of [
      ['start', 'linked'],
      ['set', 'linked', '--memory', '64M'],
    ]) {
      const refused = await store.loopbox(args);
      expect(refused, args[0]).toMatchObject({ code: 11, stderr: expect.stringContaining('its file is sealed and has other hard links') });
    }
    await store.done('rename', 'linked', 'link');
    const { stderr } = await store.loopbox(['start', 'link']);
    const hint = /^hint: (cp .*)$/m.exec(stderr)?.[1];
    await shell('sh', '-c', hint ?? 'false');
    expect(await checksum(template)).toBe(before);
    expect(statSync(template).nlink).toBe(1);
    await store.done('set', 'link', '--', 'sleep', '1000');
    await store.done('start', 'link');
    await store.done('rm', '-f', 'link');
    expect(await checksum(template)).toBe(before);
  });
});

/** A stopped container with data and a machine-id, as one that has run for long. */
async function createWithIdentity(store: TestStore, name: string): Promise<void> {
  await store.createBusybox(name, '--full', '--', 'sleep', '1000');
  await store.done('start', name);
  await inside(store, name, `echo data of ${name} > /var/lib/data; echo 11112222333344445555666677778888 > /etc/machine-id`);
  await store.done('stop', '-t', '0', name);
}

async function identityOf(store: TestStore, name: string) {
  const image = store.imageOf(name);
  const [machineId, hostname] = await withStockMount(image, async (directory) =>
    ['machine-id', 'hostname'].map((file) => readFileSync(join(directory, 'etc', file), 'utf8').trim()),
  );
  return { container: (await store.inspect(name)).containerId, uuid: uuidOf(image), machineId, hostname };
}
