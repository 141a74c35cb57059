import { readdirSync, statSync } from 'node:fs';
import { rm, statfs } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { MiB } from '../../src/units';
import { hashOfDisk, withDisk } from '../disk-view';
import { execute, shell, smallFileSystem, temporaryDirectory, TestStore } from '../fixtures';
import { sleep } from '../sleeper';
import { containerFiles } from '../truth';

const whole = 256 * MiB;

async function freeBytes(place: string): Promise<number> {
  const { bavail, bsize } = await statfs(place);
  return bavail * bsize;
}

/** Leaves nothing free. What the host's file system has yet to allocate is written first. */
async function fill(place: string, ...unwritten: string[]): Promise<void> {
  for (const path of unwritten) await execute('dd', ['if=/dev/null', `of=${path}`, 'conv=notrunc,fsync']);
  await shell('fallocate', '-l', String((await freeBytes(place)) - 2 * MiB), join(place, 'filler'));
  const fillRest = async () => {
    await execute('dd', ['if=/dev/zero', `of=${join(place, 'filler.rest')}`, 'bs=4k', 'oflag=append', 'conv=notrunc,fsync']);
    return freeBytes(place);
  };
  await expect.poll(fillRest).toBe(0);
}

const drain = async (place: string) => {
  for (const name of ['filler', 'filler.rest']) await rm(join(place, name));
};

describe('a host with no byte free', { timeout: 120_000 }, () => {
  it('lets the oldest snapshot go by what the store has in reserve, of a container that runs and of one that rests', async () => {
    const place = await smallFileSystem(1536 * MiB);
    const store = await TestStore.create(place, await temporaryDirectory());
    await store.importBusybox('busybox', '--size', '128M');
    await store.createBusybox('web', '--full', '--attach', 'stack', '--start', ...sleep);
    const hashes = new Map<string, string>();
    for (const name of ['a', 'b', 'c']) {
      const line = `dd if=/dev/urandom of=/root/${name} bs=1M count=3 conv=fsync 2>/dev/null; rm -f /root/big; head -c 2000000 /dev/urandom > /root/big`;
      await store.done('exec', 'web', 'sh', '-c', `${line}; dd if=/dev/null of=/root/big conv=notrunc,fsync 2>/dev/null`);
      await store.done('snapshot', 'create', `web@${name}`);
      hashes.set(`web@${name}`, await withDisk(store, `web@${name}`, hashOfDisk));
    }
    const reserve = join(store.root, '.reserve');
    const reserved = () => statSync(reserve).blocks * 512;
    expect(reserved()).toBeGreaterThanOrEqual(whole);
    const expectExact = async () => {
      for (const [state, hash] of hashes) expect([state, await withDisk(store, state, hashOfDisk)]).toEqual([state, hash]);
    };

    await fill(place, store.fileOf('web'));
    expect(await store.loopbox(['snapshot', 'create', 'web@d'])).toMatchObject({ code: 14 });
    hashes.delete('web@a');
    expect(await store.loopbox(['snapshot', 'rm', '--wait', '--oldest', '1', 'web'])).toMatchObject({ code: 0, stdout: 'web@a\n' });
    expect(containerFiles(store)).toEqual(['web.delta', 'web@b.img', 'web@c.delta']);
    expect(reserved()).toBeLessThan(whole);
    await drain(place);
    await expectExact();
    await store.done('exec', 'web', 'sh', '-c', 'md5sum /root/a /root/big; echo 1 | dd of=/root/after conv=fsync 2>/dev/null');
    await store.done('stop', '-t', '0', 'web');

    await fill(place, store.fileOf('web'));
    hashes.delete('web@b');
    expect(await store.loopbox(['snapshot', 'rm', '--wait', '--oldest', '1', 'web'])).toMatchObject({ code: 0, stdout: 'web@b\n' });
    expect(containerFiles(store)).toEqual(['web.delta', 'web@c.img']);
    await drain(place);
    await expectExact();
    await withDisk(store, 'web', (disk) => shell('e2fsck', '-fn', disk));
    // It is filled again when there is room.
    await store.done('snapshot', 'create', 'web@e');
    expect(reserved()).toBeGreaterThanOrEqual(whole);
    expect(readdirSync(store.root)).toContain('.reserve');
  });
});
