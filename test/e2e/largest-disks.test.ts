import { readdirSync, readFileSync, readlinkSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { GiB, KiB, MiB } from '../../src/units';
import { busyboxTar, smallFileSystem, TestStore, xfsDirectory } from '../fixtures';
import { expectRefused, storeFiles } from '../refusal';
import { sleep } from '../sleeper';

const TiB = 1024 * GiB;

describe('a disk of 16 TiB, on XFS,', () => {
  let store: TestStore;

  beforeAll(async () => {
    store = await TestStore.create(await xfsDirectory(4 * GiB));
    await store.importBusybox('busybox', '--size', '16T');
  });

  it.each([
    ['by the kernel', ['--full', '--attach', 'direct']],
    ['by a storage server', ['--full', '--attach', 'stack']],
    ['by a storage server, on its template', ['--linked']],
  ])('is attached %s: created, run, snapshotted, told of and removed, sparse all the time', async (_, flags) => {
    expect(await store.createBusybox('web', ...flags, ...sleep)).toContain('web: 16 TiB');
    await store.done('start', 'web');
    expect(Number(await store.done('exec', 'web', '--', 'sh', '-c', 'stat -f -c %b /'))).toBeGreaterThan((15 * TiB) / (4 * KiB));
    await store.done('exec', 'web', '--', 'sh', '-c', 'echo one > /file; sync');
    await store.done('snapshot', 'create', 'web@one');
    await store.done('exec', 'web', '--', 'sh', '-c', 'echo two > /file; sync');
    for (const bytes of liveStates()) expect(bytes).toBeLessThan(4 * MiB);
    expect(await store.json('ls')).toMatchObject([{ name: 'web', state: 'running', sizeBytes: 16 * TiB }]);

    // A new worker reads the maps anew.
    await store.done('restart', '-t', '0', 'web');
    expect(await store.done('exec', 'web', '--', 'cat', '/file')).toBe('two');
    await store.done('stop', '-t', '0', 'web');
    await store.done('snapshot', 'restore', 'web@one');
    await store.done('start', 'web');
    expect(await store.done('exec', 'web', '--', 'cat', '/file')).toBe('one');
    await store.done('stop', '-t', '0', 'web');
    for (const file of storeFiles(store).filter((name) => name.startsWith('web'))) expect(allocatedBytes(store, file)).toBeLessThan(GiB);
    await store.done('rm', '--snapshots', 'web');
    expect(storeFiles(store)).toEqual(['busybox.img']);
  });

  /** What the live states of this store's servers take of memory. */
  function liveStates(): number[] {
    const isKeeper = (pid: string) =>
      text(`/proc/${pid}/cmdline`).includes(store.runRoot) && text(`/proc/${pid}/comm`) === 'loopbox-keeper\n';
    return readdirSync('/proc')
      .filter((pid) => /^\d+$/.test(pid) && isKeeper(pid))
      .flatMap((pid) => readdirSync(`/proc/${pid}/fd`).map((fd) => `/proc/${pid}/fd/${fd}`))
      .filter((fd) => targetOf(fd).startsWith('/memfd:loopbox-live'))
      .map((fd) => statSync(fd).blocks * 512);
  }

  function text(path: string): string {
    try {
      return readFileSync(path, 'utf8');
    } catch {
      return '';
    }
  }

  /** Empty where the descriptor is closed meanwhile. */
  function targetOf(fd: string): string {
    try {
      return readlinkSync(fd);
    } catch {
      return '';
    }
  }

  function allocatedBytes({ root }: TestStore, name: string): number {
    return statSync(join(root, 'containers', name)).blocks * 512;
  }
});

describe('on ext4, whose files end below 16 TiB,', () => {
  const limit = 'holds no file of more than 17592186040320 bytes';
  let store: TestStore;

  beforeAll(async () => {
    store = await TestStore.create(await smallFileSystem(2 * GiB));
    await store.importBusybox('small', '--size', '128M');
    await store.importBusybox('large', '--size', '16383G');
  });

  it('a disk of 16 TiB is refused (15), with the limit, before it is made', async () => {
    await expectRefused(store, ['template', 'import', 'new', await busyboxTar(), '--size', '16T'], 15, 'a disk of 16 TiB', limit);
    for (const size of ['16T', '17T', '2000T']) {
      for (const how of [[], ['--full']])
        await expectRefused(store, ['create', 'new', ...how, '--template', 'small', '--size', size], 15, 'a disk of ', limit);
      await expectRefused(store, ['run', '-d', '--template', 'small', '--size', size, 'new'], 15, limit);
    }
  });

  it('so is a delta whose map and data are longer than a file can be, and what it was wanted for is as before', async () => {
    await expectRefused(store, ['create', 'new', '--template', 'large', '--linked'], 15, 'a delta of ', limit);
    await expectRefused(store, ['create', 'new', '--template', 'small', '--linked', '--size', '16T'], 15, 'a delta of 16 TiB', limit);
    await store.done('create', 'web', '--template', 'large', '--full', '--attach', 'stack', ...sleep);
    await expectRefused(store, ['snapshot', 'create', 'web@one'], 15, 'a delta of ', limit);
    await expectRefused(store, ['clone', '--linked', 'web', 'new'], 15, 'a delta of ', limit);
    await store.done('start', 'web');
    expect(await store.loopbox(['snapshot', 'create', 'web@one'])).toMatchObject({ code: 15, stderr: expect.stringContaining(limit) });
    expect(await store.done('exec', 'web', '--', 'echo', 'it runs')).toBe('it runs');
    await store.done('stop', '-t', '0', 'web');
    await store.done('rm', 'web');
  });

  it('create makes a copy where a delta would be too long, and says so', async () => {
    expect(await store.done('create', 'web', '--template', 'large', ...sleep)).toBe(
      'web: 16.0 TiB, copied from large (too large for a delta on this file system); attach: stack',
    );
    await store.done('start', 'web');
    expect(await store.done('exec', 'web', '--', 'echo', 'it runs')).toBe('it runs');
    await store.done('stop', '-t', '0', 'web');
    await store.done('rm', 'web');
    expect(await store.done('create', 'web', '--template', 'small', ...sleep)).toBe('web: 128 MiB, linked to small; attach: stack');
  });
});
