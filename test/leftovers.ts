import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestProject } from 'vitest/node';
import { type HostState, leftSince, snapshotOfLeftovers, temporaryPrefix } from './host-state';
import { leftoverReports } from './leftover-reports';

declare module 'vitest' {
  interface ProvidedContext {
    /** A directory for what is made once and used by many test files; gone after the run. */
    runDirectory: string;
  }
}

interface Run {
  projects: number;
  before: HostState;
  directory: string;
}

// The projects root and e2e each load this file; the run is one.
const key = Symbol.for('loopbox.testRun');
const shared = globalThis as { [key]?: Run | undefined };

/** Remembers what there is on this host, for `teardown` to compare. */
export function setup(project: TestProject): void {
  if (process.getuid?.() !== 0)
    throw new Error(
      `The tests of "${project.name}" make loop devices and mounts: run them as root, or only the others with npm run test:unit`,
    );
  const before = shared[key]?.before ?? snapshotOfLeftovers();
  shared[key] ??= { projects: 0, before, directory: mkdtempSync(join(tmpdir(), `${temporaryPrefix}run-`)) };
  shared[key].projects++;
  project.provide('runDirectory', shared[key].directory);
}

/** Fails the run where something is left (a throw here would not). */
export async function teardown(): Promise<void> {
  const run = shared[key];
  if (!run || --run.projects > 0) return;
  shared[key] = undefined;
  rmSync(run.directory, { recursive: true, force: true });
  const left = await leftSince(run.before);
  if (left.length === 0) return;
  const report = `Left behind by the tests (or by something else that ran beside them):\n${left.map((thing) => `  ${thing}`).join('\n')}`;
  leftoverReports().push(report);
  process.exitCode = 1;
  console.error(report);
}
