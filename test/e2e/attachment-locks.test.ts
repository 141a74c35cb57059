import { readFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { execute, program, type TestStore, temporaryDirectory } from '../fixtures';
import { sleep, storeWithSleeper } from '../sleeper';

let store: TestStore;

beforeAll(async () => {
  store = await storeWithSleeper('c', '--linked', '--attach', 'stack');
  await store.createBusybox('direct', '--full', '--attach', 'direct', ...sleep);
});

/** The locks that a command takes on files of containers and templates, in their order. */
async function locksOf(...args: string[]): Promise<string[]> {
  const path = join(await temporaryDirectory(), 'trace');
  const options = ['-y', '-s', '300', '-e', 'trace=flock', '-o', path];
  const traced = await execute('strace', [...options, process.execPath, program, ...args], { env: store.environment });
  expect(traced).toMatchObject({ code: 0 });
  const calls = [...(await readFile(path, 'utf8')).matchAll(/^flock\(\d+<(.*)>, (\S+)\) = 0$/gm)];
  return calls.map(([, file = '', kind]) => `${basename(file)} ${kind}`).filter((lock) => /^\S+\.(img|delta|next|fold) /.test(lock));
}

/** Whether anybody may have a lock of this kind now. */
async function isFree(kind: '-s' | '-x', fileName: string): Promise<boolean> {
  return (await execute('flock', ['-n', kind, join(store.root, 'containers', fileName), 'true'])).code === 0;
}

describe('attachment locks are taken once, without waiting, and never converted:', () => {
  it('by a start, directly', async () => {
    expect(await locksOf('start', 'direct')).toEqual(['direct.img LOCK_EX|LOCK_NB']);
    await store.done('stop', '-t', '0', 'direct');
  });

  it('by a start with a storage server, and by a snapshot then: what was the top stays locked as it was', async () => {
    expect(await locksOf('start', 'c')).toEqual(['busybox.img LOCK_SH|LOCK_NB', 'c.delta LOCK_EX|LOCK_NB']);
    expect(await locksOf('snapshot', 'create', 'c@mon')).toEqual(['c.next LOCK_EX|LOCK_NB']);
    for (const fileName of ['c.delta', 'c@mon.delta']) expect(await isFree('-s', fileName), fileName).toBe(false);
    await store.done('stop', '-t', '0', 'c');
    await expect.poll(() => isFree('-x', 'c@mon.delta')).toBe(true);
  });
});
