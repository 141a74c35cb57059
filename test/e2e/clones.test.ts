import { statSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { MiB } from '../../src/units';
import { changeDisk, contentOfState, manifestOf } from '../chain-view';
import { chainedContainer } from '../chained-container';
import { withDisk } from '../disk-view';
import { shell, type TestStore, temporaryDirectory } from '../fixtures';
import { checksum, uuidOf } from '../image-view';
import { storeWithSleeper } from '../sleeper';
import { containerFiles } from '../truth';
import { inside } from '../web-container';

describe('clone', () => {
  let store: TestStore;

  beforeAll(async () => {
    store = await chainedContainer();
  });

  it.each(['web', 'web@mon', 'web@tue'])('of %s is one image with all of it, and an identity of its own', async (from) => {
    const before = containerFiles(store);
    expect(await store.done('clone', from, 'copy')).toBe(`copy: 128 MiB, copied from ${from}; attach: stack`);
    expect(containerFiles(store)).toEqual(['copy.img', ...before]);
    await shell('e2fsck', '-fn', store.imageOf('copy'));
    const [source, copy] = [await contentOfState(store, from), await contentOfState(store, 'copy')];
    const without = (text: string) => text.split('\n').filter((line) => !/ \.\/etc\/(hostname|machine-id)$/.test(line));
    expect(without(copy)).toEqual(without(source));
    expect((await store.inspect('copy')).containerId).not.toBe((await store.inspect('web')).containerId);
    expect(await store.inspect('copy')).toMatchObject({ template: 'busybox', config: { environment: { GREETING: 'hello' } } });
    for (const key of ['parent', 'sealed', 'snapshot']) expect(manifestOf(store.imageOf('copy'))).not.toHaveProperty(key);
    await store.done('start', 'copy');
    expect(await inside(store, 'copy', 'hostname; cat /etc/hostname')).toBe('copy\ncopy');
    await store.done('rm', '-f', 'copy');
  });

  it('keeps the identity where it is told to', async () => {
    await store.done('clone', 'web@tue', 'first');
    await store.done('clone', 'first', 'second', '--keep-identity');
    await store.done('clone', 'first', 'third');
    const uuids = ['first', 'second', 'third'].map((name) => uuidOf(store.imageOf(name)));
    expect(uuids[1]).toBe(uuids[0]);
    expect(uuids[2]).not.toBe(uuids[0]);
    expect(await contentOfState(store, 'second')).toBe(await contentOfState(store, 'first'));
    await store.done('rm', 'first', 'second', 'third');
  });

  it('of a FILE needs nothing of the store', async () => {
    const file = `${await temporaryDirectory()}/web.img`;
    await store.done('export', 'web', file);
    await store.done('clone', file, 'copy');
    expect(await store.loopbox(['clone', '--linked', file, 'linked'])).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('import'),
    });
    await store.done('rm', 'copy');
  });

  it('refuses a name that is taken, and what is not there', async () => {
    const before = containerFiles(store);
    expect(await store.loopbox(['clone', 'web', 'web'])).toMatchObject({ code: 11 });
    expect(await store.loopbox(['clone', 'web@nope', 'copy'])).toMatchObject({ code: 10 });
    expect(await store.loopbox(['clone', 'nope', 'copy'])).toMatchObject({ code: 10 });
    expect(await store.loopbox(['clone', 'web', 'No'])).toMatchObject({ code: 2 });
    expect(containerFiles(store)).toEqual(before);
  });
});

describe('linked', () => {
  it('create and clone copy nothing, hold what they stand on, and change without it', async () => {
    const store = await storeWithSleeper('web', '--full');
    await changeDisk(store, 'web', 'echo apples > root/fruit');
    expect(await store.done('create', 'made', '--linked', '--template', 'busybox')).toBe('made: 128 MiB, linked to busybox; attach: stack');
    expect(await store.done('clone', '--linked', 'web', 'linked')).toBe('linked: 128 MiB, linked to web; attach: stack');
    expect(containerFiles(store)).toEqual(['linked.delta', 'made.delta', 'web.img']);
    for (const name of ['made', 'linked']) {
      expect(Number(await shell('du', '-k', `${store.root}/containers/${name}.delta`).then((line) => line.split('\t')[0]))).toBeLessThan(
        300,
      );
    }
    expect(await contentOfState(store, 'linked')).toBe(await contentOfState(store, 'web'));
    const [before, template] = [await checksum(store.imageOf('web')), `${store.root}/templates/busybox.img`];
    const templateBefore = await checksum(template);
    await changeDisk(store, 'linked', 'echo pears > root/fruit');
    await changeDisk(store, 'made', 'echo plums > root/fruit');
    expect(await checksum(store.imageOf('web'))).toBe(before);
    expect(await checksum(template)).toBe(templateBefore);
    const ids = await Promise.all(['web', 'linked', 'made'].map(async (name) => (await store.inspect(name)).containerId));
    expect(new Set(ids).size).toBe(3);
  });

  it('a container that another stands on may start: what that needs is kept, frozen, without a name', async () => {
    const store = await storeWithSleeper('web', '--attach', 'direct');
    await changeDisk(store, 'web', 'echo apples > root/fruit');
    await store.done('clone', '--linked', 'web', 'linked');
    const before = await contentOfState(store, 'linked');
    await store.done('start', 'web');
    await inside(store, 'web', 'echo pears > /root/fruit');
    await store.done('stop', '-t', '0', 'web');
    // Attached direct it stays one whole image.
    expect(containerFiles(store)).toEqual(['linked.delta', 'web.img', 'web@~1.img']);
    expect(await contentOfState(store, 'linked')).toBe(before);
    expect(await contentOfState(store, 'web')).not.toBe(before);
    await store.done('flatten', 'linked');
    expect(await contentOfState(store, 'linked')).toBe(before);
    // Nobody needs it now: the next command that looks after the container takes it away.
    await store.done('snapshot', 'create', 'web@one');
    expect(containerFiles(store)).toEqual(['linked.img', 'web.img', 'web@one.img']);
  });

  it('while it runs, what it stands on is started, renamed, cloned, restored and a snapshot taken of it', async () => {
    const store = await storeWithSleeper('web', '--linked');
    await changeDisk(store, 'web', 'echo apples > root/fruit');
    await store.done('clone', '--linked', 'web', 'linked');
    await store.done('start', 'linked');
    await store.done('clone', '--linked', 'web', 'second');
    await store.done('rename', 'web', 'source');
    await store.done('snapshot', 'create', 'source@one');
    await store.done('start', 'source');
    await inside(store, 'source', 'echo pears > /root/fruit');
    await store.done('stop', '-t', '0', 'source');
    await store.done('snapshot', 'restore', 'source@one');
    await store.done('start', 'source');
    expect(await inside(store, 'source', 'cat /root/fruit')).toBe('apples');
    await inside(store, 'linked', 'echo plums >> /root/fruit');
    expect(await inside(store, 'linked', 'cat /root/fruit')).toBe('apples\nplums');
    await store.done('start', 'second');
    expect(await inside(store, 'second', 'cat /root/fruit')).toBe('apples');
  });

  it('that is larger than its template has the room, and the template is as it was', async () => {
    const store = await storeWithSleeper('web');
    const template = join(store.root, 'templates/busybox.img');
    const before = await shell('md5sum', template);
    await store.createBusybox('small', '--linked');
    expect(await store.createBusybox('large', '--linked', '--size', '256M', '--', 'sleep', '1000')).toBe(
      'large: 256 MiB, linked to busybox; attach: stack',
    );
    // By a reader that shares no code: the same files in a larger file system, which e2fsck finds nothing wrong with.
    await withDisk(store, 'large', async (disk) => {
      await shell('e2fsck', '-fn', disk);
      expect(await shell('dumpe2fs', '-h', disk)).toMatch(/^Block count: +65536$/m);
    });
    expect(await contentOfState(store, 'large')).toBe(await contentOfState(store, 'small'));
    expect(statSync(store.fileOf('large')).blocks * 512).toBeLessThan(2 * MiB);
    await store.done('start', 'large');
    await store.done('exec', 'large', 'dd', 'if=/dev/zero', 'of=/zeroes', 'bs=1M', 'count=180');
    await store.done('snapshot', 'create', 'large@one');
    await store.done('stop', '-t', '0', 'large');
    await store.done('check', 'large');
    await store.done('settle', 'large');
    await withDisk(store, 'large@one', (disk) => shell('e2fsck', '-fn', disk));
    expect(await shell('md5sum', template)).toBe(before);
  });

  it('smaller than its template is refused; so are --linked and --full at once', async () => {
    const store = await storeWithSleeper('web');
    const create = (...flags: string[]) => store.loopbox(['create', 'new', '--template', 'busybox', ...flags]);
    expect(await create('--linked', '--size', '64M')).toMatchObject({ code: 2, stderr: expect.stringContaining('hint: --size') });
    expect(await create('--linked', '--full')).toMatchObject({ code: 2 });
    expect(await create('--full')).toMatchObject({ code: 0 });
  });
});
