import { join } from 'node:path';
import { expect } from 'vitest';
import { heldByKernel, keptOnHost } from './remains';
import { TestStore } from './store';

/** The arguments of a container that runs until it is stopped. */
export const sleep = ['--', 'sleep', '1000'];

/** A store with the template `busybox`, of 128 MiB, and a container of it that sleeps once it is started. */
export async function storeWithSleeper(name: string, ...flags: string[]): Promise<TestStore> {
  const store = await TestStore.create();
  await store.importBusybox('busybox', '--size', '128M');
  await store.createBusybox(name, ...flags, ...sleep);
  return store;
}

/**
 * A store whose container `box` runs, and a check for after each test: no attach client, runtime, monitor, cgroup or file of a command
 * outlives it.
 */
export async function storeAtRest(): Promise<{ store: TestStore; expectAtRest: () => Promise<void> }> {
  const store = await storeWithSleeper('box', '--start');
  await store.done('exec', 'box', 'true');
  const whatIsThere = () => [...heldByKernel(store), ...keptOnHost(store)];
  const atRest = whatIsThere();
  const expectAtRest = async () => {
    await expect.poll(whatIsThere).toEqual(atRest);
  };
  return { store, expectAtRest };
}

/** The file of a container that sleeps, as `<directory>/<name>.img` outside of the store. */
export async function exportSleeper(store: TestStore, directory: string, name: string, ...flags: string[]): Promise<string> {
  const file = join(directory, `${name}.img`);
  await store.createBusybox(name, ...flags, ...sleep);
  await store.done('export', name, file);
  await store.done('rm', name);
  return file;
}
