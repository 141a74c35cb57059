import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'vitest';
import { heldByKernel } from './remains';
import type { TestStore } from './store';

/** The names of all files of containers and templates. */
export function storeFiles(store: TestStore): string[] {
  return ['containers', 'templates'].flatMap((name) => readdirSync(join(store.root, name))).sort();
}

/** Runs a command that must fail so, leave the store as it was, and nothing attached. */
export async function expectRefused(store: TestStore, args: string[], code: number, ...words: string[]): Promise<void> {
  const before = storeFiles(store);
  const result = await store.loopbox(args, { timeoutMs: 60_000 });
  for (const word of words) expect(result.stderr).toContain(word);
  expect([args[0], result.code, result.stderr]).toEqual([args[0], code, expect.stringMatching(/^loopbox: Cannot /)]);
  expect(storeFiles(store)).toEqual(before);
  await expect.poll(() => heldByKernel(store)).toEqual([]);
}
