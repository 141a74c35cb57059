import { readdirSync, statSync } from 'node:fs';
import { rm, statfs, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { FileLock } from '../../src/container/locks';
import { dropReserve, ensureReserve, reservedBytes, withReserve } from '../../src/container/reserve';
import { Store } from '../../src/container/store';
import { LoopboxError } from '../../src/errors';
import { MiB } from '../../src/units';
import { execute, shell, smallFileSystem } from '../fixtures';

const whole = 256 * MiB;
let place: string;
let store: Store;

beforeAll(async () => {
  place = await smallFileSystem(1536 * MiB);
  store = new Store({ root: join(place, 'root') });
  store.prepare();
});

beforeEach(async () => {
  for (const name of readdirSync(place)) if (name.startsWith('filler')) await rm(join(place, name));
  await rm(join(store.root, '.reserve'), { force: true });
});

async function freeBytes(): Promise<number> {
  await shell('sync', '-f', place);
  const { bavail, bsize } = await statfs(place);
  return bavail * bsize;
}

/** Leaves so much free. */
async function fill(room: number): Promise<void> {
  await shell('fallocate', '-l', String((await freeBytes()) - room - MiB), join(place, 'filler'));
  const rest = Math.ceil(((await freeBytes()) - room) / 4096);
  await execute('dd', ['if=/dev/zero', `of=${join(place, 'filler.rest')}`, 'bs=4k', `count=${rest}`]);
}

/** Work that needs room, and fails for want of it. */
async function write(bytes: number): Promise<void> {
  const { code, stderr } = await execute('dd', [
    'if=/dev/zero',
    `of=${join(place, 'filler.work')}`,
    'bs=1M',
    `count=${bytes / MiB}`,
    'conv=fsync',
  ]);
  if (code !== 0) throw new LoopboxError('ERR_LOOPBOX_NO_SPACE', stderr);
}

describe('a store’s reserve', () => {
  it('takes real space, once', async () => {
    const before = await freeBytes();
    await ensureReserve(store);
    expect(reservedBytes(store)).toBeGreaterThanOrEqual(whole);
    expect(before - (await freeBytes())).toBeGreaterThanOrEqual(whole);
    const { ctimeMs } = statSync(join(store.root, '.reserve'));
    await ensureReserve(store);
    expect(statSync(join(store.root, '.reserve')).ctimeMs).toBe(ctimeMs);
  });

  it('is not made where less than four times as much is free', async () => {
    await fill(4 * whole - 8 * MiB);
    await ensureReserve(store);
    expect(readdirSync(store.root)).not.toContain('.reserve');
    expect(reservedBytes(store)).toBe(0);
  });

  it('is completed where its maker was killed, and where a copy of the store has made a hole of it', async () => {
    await writeFile(join(store.root, '.reserve'), '');
    await ensureReserve(store);
    expect(reservedBytes(store)).toBeGreaterThanOrEqual(whole);
    await truncate(join(store.root, '.reserve'), 0);
    await truncate(join(store.root, '.reserve'), whole);
    expect(reservedBytes(store)).toBe(0);
    await ensureReserve(store);
    expect(reservedBytes(store)).toBeGreaterThanOrEqual(whole);
  });

  it('lets work go on where the host is full, step by step, and is filled again when there is room', async () => {
    await ensureReserve(store);
    await fill(0);
    await expect(write(40 * MiB)).rejects.toMatchObject({ code: 'ERR_LOOPBOX_NO_SPACE' });
    await withReserve(store, () => write(40 * MiB));
    expect(statSync(join(store.root, '.reserve')).size).toBe(whole - 3 * 16 * MiB);
    expect(await freeBytes()).toBeLessThan(16 * MiB);
    let runs = 0;
    await withReserve(store, async () => {
      if (++runs === 1) throw Object.assign(new Error('full'), { errno: -28, code: 'ENOSPC', syscall: 'write' });
      await rm(join(place, 'filler'));
    });
    expect(runs).toBe(2);
    expect(reservedBytes(store)).toBeGreaterThanOrEqual(whole);
  });

  it('is used up at last; then, and where there is none, work fails as it would', async () => {
    await ensureReserve(store);
    await fill(0);
    await expect(withReserve(store, () => write(512 * MiB))).rejects.toMatchObject({ code: 'ERR_LOOPBOX_NO_SPACE' });
    expect(statSync(join(store.root, '.reserve')).size).toBe(0);
    await rm(join(store.root, '.reserve'));
    await expect(withReserve(store, () => write(512 * MiB))).rejects.toMatchObject({ code: 'ERR_LOOPBOX_NO_SPACE' });
    expect(readdirSync(store.root)).not.toContain('.reserve');
  });

  it('is left alone where work fails for another reason', async () => {
    await ensureReserve(store);
    const failing = async () => {
      throw new Error('other');
    };
    await expect(withReserve(store, failing)).rejects.toThrow('other');
    expect(statSync(join(store.root, '.reserve')).size).toBe(whole);
  });

  it('goes with the last container, unless another command is at it', async () => {
    await ensureReserve(store);
    await writeFile(store.containerPath('c'), '');
    await dropReserve(store);
    expect(readdirSync(store.root)).toContain('.reserve');
    await rm(store.containerPath('c'));
    {
      await using _lock = await FileLock.take(join(store.root, '.reserve'), 'exclusive', 0);
      await dropReserve(store);
      expect(readdirSync(store.root)).toContain('.reserve');
    }
    await dropReserve(store);
    expect(readdirSync(store.root)).not.toContain('.reserve');
    await dropReserve(store);
  });
});
