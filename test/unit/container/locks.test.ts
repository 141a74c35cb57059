import { closeSync, mkdtempSync, openSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { flockSync } from 'fs-ext';
import { afterAll, afterEach, expect, it, vi } from 'vitest';
import { FileLock, takeStructureLock, tryLock } from '../../../src/container/locks';

vi.mock('fs-ext', async (original) => ({ flockSync: vi.fn((await original<{ flockSync: typeof flockSync }>()).flockSync) }));

const directory = mkdtempSync(join(tmpdir(), 'loopbox-locks-'));
afterAll(() => rmSync(directory, { recursive: true }));
afterEach(() => vi.mocked(flockSync).mockClear());

const path = join(directory, 'lock');

it('a lock is held once, or shared', async () => {
  const fd = openSync(path, 'a');
  const other = openSync(path, 'r');
  expect([tryLock(fd, 'shared'), tryLock(other, 'shared'), tryLock(other, 'exclusive')]).toEqual([true, true, false]);
  closeSync(fd);
  expect(tryLock(other, 'exclusive')).toBe(true);
  expect([FileLock.isHeld(path), await FileLock.take(path, 'exclusive', 0)]).toEqual([true, undefined]);
  closeSync(other);
  await (await FileLock.take(path, 'exclusive', 0))?.close();
  expect([FileLock.isHeld(path), FileLock.isHeld(`${path}-none`)]).toEqual([false, false]);
});

it('the structure lock of a store is shared by who adds, and excludes who takes away', async () => {
  const store = { root: directory };
  const adding = [await takeStructureLock(store, 'shared', 0), await takeStructureLock(store, 'shared', 0)];
  await expect(takeStructureLock(store, 'exclusive', 50)).rejects.toMatchObject({ code: 'ERR_LOOPBOX_LOCKED' });
  const waiting = takeStructureLock(store, 'exclusive', 5000);
  for (const lock of adding) await lock.close();
  await using _removing = await waiting;
  await expect(takeStructureLock(store, 'shared', 0)).rejects.toMatchObject({
    code: 'ERR_LOOPBOX_LOCKED',
    message: `Cannot change what stands on what in "${directory}": another command is at it`,
  });
});

it('a file system without locks is told by name', async () => {
  vi.mocked(flockSync).mockImplementationOnce(() => {
    throw Object.assign(new Error('ENOLCK, No locks available'), { errno: 37, code: 'ENOLCK', syscall: 'Flock' });
  });
  await expect(FileLock.take(path, 'exclusive', 0)).rejects.toMatchObject({
    code: 'ERR_LOOPBOX_NOT_SUPPORTED',
    message: `Cannot lock "${path}": no locks available (ENOLCK, flock)`,
    path,
    cause: { errno: -37, code: 'ENOLCK', syscall: 'flock', path },
  });
});
