import { join } from 'node:path';
import { expect } from 'vitest';
import { MiB } from '../src/units';
import { listContent } from './image-view';
import type { TestStore } from './store';

/** Tells all that a container was asked to be: variable, user, directory, host name and data. */
export const tell = 'echo "$COLOR $(id -un) $(pwd) $(hostname) $(cat /var/lib/data)"; exec sleep 1000';
export const command = ['sh', '-c', tell];

/** The flags of a container that asks for one of everything. */
export const wish = '--memory 64M --cpus 0.5 --pids 40 -e COLOR=green -w /tmp -u alice --label tier=front'.split(' ');
export const wishedLimits = { memoryBytes: 64 * MiB, cpus: 0.5, pids: 40 };

/** Makes the container `web`, which asks for that and tells of it when it is started. */
export function createWeb(store: TestStore, ...flags: string[]): Promise<string> {
  return store.createBusybox('web', ...wish, ...flags, '--', ...command);
}

/** Expects that a container has told so and no more. */
export async function expectSays(store: TestStore, name: string, says: string): Promise<void> {
  await expect.poll(() => store.done('logs', name)).toBe(says);
}

/** Runs a line of shell as root in a running container. */
export function inside(store: TestStore, name: string, line: string): Promise<string> {
  return store.done('exec', '-u', 'root', name, 'sh', '-c', line);
}

/** Writes data in a running container and returns all of its content. */
export async function write(store: TestStore, name: string, data: string): Promise<string> {
  return inside(store, name, `echo ${data} > /var/lib/data; ${listContent}`);
}

/** Stops all that runs from a store. */
export async function stopAll(store: TestStore): Promise<void> {
  const names = (await store.done('ps', '-q')).split('\n').filter(Boolean);
  await store.done('stop', '-t', '0', ...names);
  await expect.poll(() => store.done('ps', '-q')).toBe('');
}

/** Where the template `busybox` lies. */
export function templateOf(store: TestStore): string {
  return join(store.root, 'templates/busybox.img');
}
