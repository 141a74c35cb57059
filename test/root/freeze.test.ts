import { closeSync, existsSync, openSync, statSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { Freezer } from '../../src/runtime/freeze';
import { readHierarchies } from '../../src/runtime/cgroup-hierarchies';
import { readProcesses } from '../../src/runtime/cgroup-files';
import { inspectRun } from '../../src/runtime/status';
import { execute } from '../fixtures';
import { TestContainer } from './test-container';

/** A container that writes without a pause, and what shows whether it gets on. */
async function startWriter(): Promise<{ container: TestContainer; tick: () => number }> {
  const container = await TestContainer.create();
  const { pid } = await container.start({ command: ['sh', '-c', 'while :; do echo x > /tick; done'] });
  const tick = () => statSync(`/proc/${pid}/root/tick`, { throwIfNoEntry: false })?.mtimeMs ?? 0;
  await expect.poll(tick).toBeGreaterThan(0);
  return { container, tick };
}

async function isWriting(tick: () => number): Promise<boolean> {
  const before = tick();
  for (let waited = 0; waited < 1000; waited += 5) {
    await sleep(5);
    if (tick() > before) return true;
  }
  return false;
}

describe('a freeze', () => {
  it('holds every writer back until the thaw, and leaves nothing behind', async () => {
    const { container, tick } = await startWriter();
    await using freezer = await Freezer.prepare(container.directory, container.record);
    expect(existsSync(container.directory.freezingPath)).toBe(true);
    await freezer.sync();
    expect(await isWriting(tick)).toBe(true);
    const begun = performance.now();
    await freezer.freeze();
    expect(await isWriting(tick)).toBe(false);
    const thaw = await freezer.thaw();
    expect(thaw.held).toBe(true);
    expect(thaw.frozenMs).toBeGreaterThan(1000);
    expect(thaw.frozenMs).toBeLessThan(performance.now() - begun);
    expect(await isWriting(tick)).toBe(true);
    await freezer.close();
    expect(existsSync(container.directory.freezingPath)).toBe(false);
    expect(container.processes('loopbox-freeze')).toEqual([]);
  });
});
