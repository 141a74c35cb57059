import { existsSync, readdirSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeAll, expect, it } from 'vitest';
import { seededRandom, soakCount } from '../counts';
import { busyboxTar, execute, TestStore, temporaryDirectory } from '../fixtures';
import { heldByKernel, keptOnHost } from '../remains';

const minute = 60_000;
let store: TestStore;
let directory: string;

beforeAll(async () => {
  store = await TestStore.create();
  directory = await temporaryDirectory();
  await store.done('template', 'import', 'busybox', await busyboxTar(), '--size', '128M');
  await store.done('create', 'c', '--template', 'busybox', '--', 'sleep', '1000');
  await store.done('export', 'c', path('kept.img'));
});

/** Each verb with what has to be there before it, and what takes back what it has done. */
const verbs: { args: () => string[] | Promise<string[]>; before?: string[]; undo: () => Promise<unknown> }[] = [
  {
    args: async () => ['template', 'import', 'new', await busyboxTar(), '--size', '128M'],
    undo: () => store.loopbox(['template', 'rm', 'new']),
  },
  { args: () => ['template', 'create', 'new', '--from', 'c'], undo: () => store.loopbox(['template', 'rm', 'new']) },
  { args: () => ['create', 'new', '--template', 'busybox', '--size', '256M'], undo: () => store.loopbox(['rm', 'new']) },
  { args: () => ['import', path('kept.img'), 'new'], undo: () => store.loopbox(['rm', 'new']) },
  { args: () => ['export', 'c', path('new.img')], undo: () => rm(path('new.img'), { force: true }) },
  { args: () => ['set', 'c', '--hostname', 'other'], undo: async () => {} },
  { args: () => ['rename', 'c', 'd'], undo: () => store.loopbox(['rename', 'd', 'c']) },
  { args: () => ['run', '-d', path('kept.img')], undo: async () => {} },
  { args: () => ['exec', 'c', 'sleep', '0.1'], before: ['start', 'c'], undo: async () => {} },
  { args: () => ['set', 'c', '--memory', '64M'], before: ['start', 'c'], undo: async () => {} },
  { args: () => ['stop', '-t', '0', 'c'], before: ['start', 'c'], undo: async () => {} },
  { args: () => ['restart', '-t', '0', 'c'], before: ['start', 'c'], undo: async () => {} },
  {
    args: () => ['rm', '-f', 'new'],
    before: ['run', '-d', '--template', 'busybox', 'new', '--', 'sleep', '1000'],
    undo: () => store.loopbox(['rm', 'new']),
  },
];

it(
  'whichever verb is killed at any moment, its work is done or not begun, and nothing else is left after an ls',
  async () => {
    const random = seededRandom();
    for (const { args, before, undo } of verbs) {
      const command = await args();
      const once = async (killAfterMs?: number) => {
        if (before) await store.done(...before);
        const abort = new AbortController();
        const running = store.loopbox(command, { signal: abort.signal });
        const timer = killAfterMs === undefined ? undefined : setTimeout(() => abort.abort(), killAfterMs);
        const { code, stderr } = await running;
        clearTimeout(timer);
        expect([0, 137], stderr).toContain(code);
      };
      const begun = performance.now();
      await once();
      const usualMs = performance.now() - begun;
      await expectWhole();
      await undo();
      for (let round = 0; round < soakCount(10); round++) {
        const delayMs = random.below(usualMs);
        await once(delayMs);
        await expectWhole().catch((error: unknown) => {
          throw new Error(`"loopbox ${command.join(' ')}" killed after ${delayMs} ms: ${String(error)}`, { cause: error });
        });
        await undo();
      }
    }
  },
  10 * minute,
);

/** Stops what runs. Then there are only whole images, with no trace of work that was begun. */
async function expectWhole(): Promise<void> {
  for (const name of (await store.done('ps', '-q')).split('\n').filter(Boolean)) await store.done('stop', '-t', '0', name);
  await expect.poll(() => heldByKernel(store), { timeout: 2000 }).toEqual([]);
  for (const { name, reason = '' } of JSON.parse(await store.done('ls', '--format', 'json')) as { name: string; reason?: string }[]) {
    expect([name, reason.replace(/^(exit code unknown|exit \d+|killed by signal \d+)$/, '')]).toEqual([name, '']);
  }
  expect(keptOnHost(store)).toEqual([]);
  for (const place of [join(store.root, 'containers'), join(store.root, 'templates'), directory]) {
    for (const file of readdirSync(place)) {
      expect(file).toMatch(/^(c|d|new|kept|busybox)\.img$/);
      expect([file, (await execute('e2fsck', ['-fn', join(place, file)])).code]).toEqual([file, 0]);
    }
  }
  expect(existsSync(store.imageOf('c')) || existsSync(store.imageOf('d'))).toBe(true);
}

function path(name: string): string {
  return join(directory, name);
}
