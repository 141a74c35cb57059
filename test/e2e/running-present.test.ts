import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { beforeEach, describe, expect, it } from 'vitest';
import { shell, temporaryDirectory, TestStore, xfsDirectory } from '../fixtures';
import { sleep } from '../sleeper';

const write = (name: string, text: string) => ['exec', name, 'sh', '-c', `echo ${text} | dd of=/root/note conv=fsync 2>/dev/null`];
const read = (name: string) => ['exec', name, 'cat', '/root/note'];

describe.each([
  ['by the storage server', 'stack', temporaryDirectory],
  ['directly, on a host with reflinks', 'direct', () => xfsDirectory()],
] as const)('a container that runs, attached %s', (_, attach, place) => {
  let store: TestStore;

  beforeEach(async () => {
    store = await TestStore.create(await place());
    await store.importBusybox('busybox', '--size', '256M');
    await store.createBusybox('box', '--attach', attach, '--start', ...sleep);
    await store.done(...write('box', 'before'));
  });

  it('is exported as it is at one moment, and goes on', async () => {
    const file = join(await temporaryDirectory(), 'box.img');
    await store.done('export', 'box', file);
    await store.done(...write('box', 'after'));
    await shell('e2fsck', '-fn', file);
    expect(await shell('debugfs', '-R', 'cat /root/note', file)).toBe('before');
    expect(await store.done(...read('box'))).toBe('after');
    expect(await store.done('snapshot', 'ls', '-q', 'box')).toBe('');
  });

  it('is cloned, and checked; a repair is refused', async () => {
    await store.done('clone', 'box', 'copy');
    await store.done(...write('box', 'after'));
    await store.done('start', 'copy');
    expect(await store.done(...read('copy'))).toBe('before');
    expect(await store.done('check', 'box')).toContain('file system: clean');
    const { code, stderr } = await store.loopbox(['check', '--repair', 'box']);
    expect([code, stderr]).toEqual([11, 'loopbox: Cannot repair "box": it is running\nhint: loopbox stop box\n']);
    expect(await store.done(...read('box'))).toBe('after');
  });
});

it('a container that runs by the storage server is what a linked clone stands on', async () => {
  const store = await TestStore.create();
  await store.importBusybox('busybox', '--size', '256M');
  await store.createBusybox('box', '--attach', 'stack', '--start', ...sleep);
  await store.done(...write('box', 'before'));
  await store.done('clone', '--linked', 'box', 'twin');
  await store.done(...write('box', 'after'));
  await store.done('start', 'twin');
  expect(await store.done(...read('twin'))).toBe('before');
  await store.done(...write('twin', 'twins'));
  expect(await store.done(...read('box'))).toBe('after');

  await store.done('stop', '-t', '0', 'box', 'twin');
  expect((await store.loopbox(['rm', 'box'])).code).toBe(11);
  await store.done('rm', 'twin');
  await store.done('rm', 'box');
  expect(readdirSync(join(store.root, 'containers'))).toEqual([]);
});

it('a container that runs directly, on a host without reflinks, is exported only when it is stopped', async () => {
  const store = await TestStore.create();
  await store.importBusybox('busybox', '--size', '256M');
  await store.createBusybox('box', '--attach', 'direct', '--start', ...sleep);
  const { code, stderr } = await store.loopbox(['export', 'box', join(await temporaryDirectory(), 'box.img')]);
  expect(code).toBe(15);
  expect(stderr).toContain('hint: loopbox set --attach stack box, and restart it; or stop it first');
});
