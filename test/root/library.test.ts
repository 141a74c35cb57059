import { readdirSync, readlinkSync } from 'node:fs';
import { createRequire } from 'node:module';
import { setTimeout as sleep } from 'node:timers/promises';
import { beforeAll, expect, it } from 'vitest';
import type * as Library from '../../src/index';
import { seededRandom, soakCount } from '../counts';
import { lockIsFree, TestStore } from '../fixtures';
import { heldByKernel, keptOnHost } from '../remains';

const minute = 60_000;
const names = Array.from({ length: 8 }, (_, i) => `c${i}`);
const warn = (message: string) => expect.fail(message);
let library: typeof Library;
let testStore: TestStore;
let store: Library.Store;

/** As a program gets it that depends on the package. */
beforeAll(async () => {
  library = createRequire(import.meta.url)('../../dist/index.js') as typeof Library;
  testStore = await TestStore.create();
  await testStore.importBusybox();
  store = new library.Store({ root: testStore.root, runRoot: testStore.runRoot });
  const change = library.parseConfigInput({ command: ['sleep', '1000'] });
  for (const name of names) await library.createContainer(store, name, { template: 'busybox', change });
});

it('starts 8 containers at once in one process, whose namespaces, directory and descriptors stay as they were', async () => {
  const before = ownState();
  await Promise.all(names.map((name) => library.startContainer(store, name, { warn })));
  const running = await library.listContainers(store, warn);
  expect(running.map(({ name, state }) => [name, state])).toEqual(names.map((name) => [name, 'running']));
  expect(new Set(running.map(({ pid }) => pid)).size).toBe(8);
  await expect.poll(ownState).toEqual(before);

  await Promise.all(names.map((name) => library.stopContainer(store, name, { timeoutSeconds: 0 })));
  expect((await library.listContainers(store, warn)).map(({ state }) => state)).toEqual(names.map(() => 'stopped'));
  await expect.poll(() => [...heldByKernel(testStore), ...keptOnHost(testStore)]).toEqual([]);
  await expect.poll(ownState).toEqual(before);
});

it('throws LoopboxErrors that carry code and hint', async () => {
  await expect(library.startContainer(store, 'none', { warn })).rejects.toThrow(library.LoopboxError);
  await expect(library.startContainer(store, 'none', { warn })).rejects.toMatchObject({ code: 'ERR_LOOPBOX_NOT_FOUND', exitCode: 10 });
});

it(
  'leaves nothing of a start that is aborted at any moment',
  async () => {
    await abortInRounds(
      (signal) => library.startContainer(store, 'c0', { warn, signal }),
      () => library.stopContainer(store, 'c0', { timeoutSeconds: 0 }),
    );
    // The kernel takes apart what a storage server had under way after its end.
    await expect.poll(() => lockIsFree(testStore.fileOf('c0'))).toBe(true);
    expect(await library.checkContainer(store, 'c0', {})).toMatchObject({ sound: true });
  },
  10 * minute,
);

it(
  'leaves nothing of a create that is aborted at any moment',
  async () => {
    await abortInRounds(
      (signal) => library.createContainer(store, 'new', { template: 'busybox', change: library.parseConfigInput({}), signal }),
      () => library.removeContainer(store, 'new', {}),
    );
  },
  10 * minute,
);

/** Begins some work and aborts it, at moments up to its usual length; either it is done, and then undone, or nothing of it is there. */
async function abortInRounds(work: (signal: AbortSignal) => Promise<unknown>, undo: () => Promise<unknown>): Promise<void> {
  const random = seededRandom();
  const begun = performance.now();
  await work(new AbortController().signal);
  const usualMs = Math.ceil(performance.now() - begun);
  await undo();
  const [files, before] = [readdirSync(store.containersDirectory), ownState()];

  for (let round = 0; round < soakCount(100); round++) {
    const abort = new AbortController();
    const delayMs = random.below(usualMs);
    const working = work(abort.signal).then(undo, (error: unknown) => error);
    await sleep(delayMs);
    abort.abort(new Error('enough'));
    const error = await working;
    const when = `aborted after ${delayMs} of ${usualMs} ms`;
    if (error !== undefined) expect(error, when).toEqual(new Error('enough'));
    await expect.poll(() => [...heldByKernel(testStore), ...keptOnHost(testStore)], { message: when }).toEqual([]);
    expect(readdirSync(store.containersDirectory), when).toEqual(files);
    await expect.poll(ownState, { message: when }).toEqual(before);
  }
}

/** This process's namespaces, those of all its threads, its directory, and what its descriptors stand for. */
function ownState() {
  const namespaces = readdirSync('/proc/self/task').flatMap((thread) => {
    const directory = `/proc/self/task/${thread}/ns`;
    try {
      return readdirSync(directory).map((name) => readlinkSync(`${directory}/${name}`));
    } catch {
      // The thread has ended meanwhile.
      return [];
    }
  });
  return { namespaces: [...new Set(namespaces)].sort(), cwd: process.cwd(), descriptors: readdirSync('/proc/self/fd').length };
}
