import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, expect, it } from 'vitest';
import { seededRandom, soakCount } from '../counts';
import { busyboxTar, TestStore } from '../fixtures';
import { heldByKernel, keptOnHost } from '../remains';

const minute = 60_000;
let store: TestStore;

beforeAll(async () => {
  store = await TestStore.create();
  await store.done('template', 'import', 'busybox', await busyboxTar(), '--size', '128M');
  await store.done('create', 'c', '--template', 'busybox', '--', 'sleep', '1000');
});

/** Each verb with what has to be there before it, and what takes back what it may have done. Those that make files are in interrupts.test.ts. */
const verbs: { args: string[]; before?: string[]; undo?: string[] }[] = [
  { args: ['set', 'c', '--hostname', 'other'] },
  { args: ['rename', 'c', 'd'], undo: ['rename', 'd', 'c'] },
  { args: ['exec', 'c', 'sleep', '0.1'], before: ['start', 'c'] },
  { args: ['set', 'c', '--memory', '64M'], before: ['start', 'c'] },
  { args: ['stop', '-t', '0', 'c'], before: ['start', 'c'] },
  { args: ['restart', '-t', '0', 'c'], before: ['start', 'c'] },
  {
    args: ['rm', '-f', 'new'],
    before: ['run', '-d', '--template', 'busybox', 'new', '--', 'sleep', '1000'],
    undo: ['rm', 'new'],
  },
];

it(
  'whichever verb is killed at any moment, its work is done or not begun, and nothing else is left after an ls',
  async () => {
    const random = seededRandom();
    for (const { args, before, undo } of verbs) {
      const once = async (killAfterMs?: number) => {
        if (before) await store.done(...before);
        const abort = new AbortController();
        const running = store.loopbox(args, { signal: abort.signal });
        const timer = killAfterMs === undefined ? undefined : setTimeout(() => abort.abort(), killAfterMs);
        const { code, stderr } = await running;
        clearTimeout(timer);
        expect([0, 137], stderr).toContain(code);
      };
      const begun = performance.now();
      await once();
      const usualMs = performance.now() - begun;
      await expectWhole();
      if (undo) await store.loopbox(undo);

      for (let round = 0; round < soakCount(20); round++) {
        const delayMs = random.below(usualMs);
        await once(delayMs);
        await expectWhole().catch((error: unknown) => {
          throw new Error(`"loopbox ${args.join(' ')}" killed after ${delayMs} ms: ${String(error)}`, { cause: error });
        });
        if (undo) await store.loopbox(undo);
      }
    }
  },
  10 * minute,
);

/** Stops what runs. Then there is one sound file for each container, with no trace of work that was begun. */
async function expectWhole(): Promise<void> {
  for (const name of (await store.done('ps', '-q')).split('\n').filter(Boolean)) await store.done('stop', '-t', '0', name);
  await expect.poll(() => heldByKernel(store)).toEqual([]);
  for (const { name, reason = '' } of JSON.parse(await store.done('ls', '--format', 'json')) as { name: string; reason?: string }[]) {
    expect([name, reason.replace(/^(exit code unknown|exit \d+|killed by signal \d+)$/, '')]).toEqual([name, '']);
  }
  await expect.poll(() => keptOnHost(store)).toEqual([]);
  for (const place of [join(store.root, 'containers'), join(store.root, 'templates')]) {
    for (const file of readdirSync(place)) {
      expect(file).toMatch(/^(c|d|new)\.delta$|^busybox\.img$/);
      expect([file, (await store.loopbox(['check', join(place, file)])).code]).toEqual([file, 0]);
    }
  }
  expect(existsSync(store.fileOf('c')) || existsSync(store.fileOf('d'))).toBe(true);
}
