import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { defineConfig } from 'vitest/config';

const minute = 60_000;

// fs-ext is built for one major version of Node. scripts/check builds copies for the others that it runs the unit tests on.
const fsExtCopy = join(import.meta.dirname, 'build/fs-ext', process.versions.modules, 'node_modules/fs-ext');

/** Tests that make loop devices, mounts and containers: one after the other, and nothing of them may be left. */
function serial(name: string, groupOrder: number) {
  return {
    extends: true as const,
    test: {
      name,
      include: [`test/${name}/**/*.test.ts`],
      globalSetup: ['test/leftovers.ts'],
      fileParallelism: false,
      maxWorkers: 1,
      sequence: { groupOrder },
      // Many times what any of them takes where nothing else runs.
      testTimeout: 5 * minute,
      hookTimeout: 2 * minute,
    },
  };
}

export default defineConfig({
  resolve: { alias: existsSync(fsExtCopy) ? { 'fs-ext': fsExtCopy } : {} },
  // Node 20 has no `await using`.
  oxc: { target: 'node20' },
  test: {
    reporters: ['default', './test/counts-reporter.ts'],
    teardownTimeout: minute,
    // What is looked out for comes in milliseconds where nothing else runs; a test of a bound says it itself.
    expect: { poll: { timeout: minute / 3 } },
    passWithNoTests: true,
    projects: [
      {
        extends: true,
        test: { name: 'unit', include: ['test/unit/**/*.test.ts'], sequence: { groupOrder: 0 }, testTimeout: minute },
      },
      serial('root', 1),
      serial('e2e', 2),
    ],
  },
});
