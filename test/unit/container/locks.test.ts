import { closeSync, mkdtempSync, openSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { flockSync } from 'fs-ext';
import { afterAll, afterEach, expect, it, vi } from 'vitest';
import { FileLock, tryLock } from '../../../src/container/locks';

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
