import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'vitest';
import { contentOfState, manifestOf } from './chain-view';
import { contentOf, withStockMount } from './image-view';
import type { TestStore } from './store';

/** The names of all files of containers. */
export function containerFiles(store: TestStore): string[] {
  return readdirSync(join(store.root, 'containers')).sort();
}

/**
 * Expects that names tell the truth: each of these states (`web`, `web@mon`) holds what is said here, by the files that `loopbox files` names;
 * whatever is called an image of one is that state, whole, to stock tools; nothing half-made is left; no two files hold one state.
 */
export async function expectTruth(store: TestStore, states: Record<string, string>): Promise<void> {
  const directory = join(store.root, 'containers');
  const files = containerFiles(store);
  expect(files.filter((file) => !/^[^@]+(@[^@]+)?\.(img|delta)$/.test(file))).toEqual([]);
  const named = files.filter((file) => !file.includes('@~')).map((file) => file.replace(/\.(img|delta)$/, ''));
  expect(named.sort()).toEqual(Object.keys(states).sort());
  for (const [state, content] of Object.entries(states)) {
    expect(await contentOfState(store, state), state).toBe(content);
    if (!files.includes(`${state}.img`)) continue;
    expect(await withStockMount(join(directory, `${state}.img`), contentOf), `${state}.img`).toBe(content);
  }
  const manifests = files.map((file) => manifestOf(join(directory, file)));
  expect(new Set(manifests.map(({ state }) => state)).size).toBe(files.length);
  for (const [index, file] of files.entries()) if (file.includes('@')) expect(manifests[index]).toHaveProperty('sealed');
}
