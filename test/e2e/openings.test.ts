import { spawn } from 'node:child_process';
import { statSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { beforeAll, describe, expect, it } from 'vitest';
import { cleanUp, type TestStore } from '../fixtures';
import { storeWithSleeper } from '../sleeper';

const snapshots = 5;

describe('a command opens each sealed file of a chain', () => {
  let store: TestStore;

  beforeAll(async () => {
    store = await storeWithSleeper('web', '--full', '--attach', 'stack', '--start');
    for (let number = 1; number <= snapshots; number++) await store.done('snapshot', 'create', `web@s${number}`);
  });

  it('once, to take a snapshot of a container that runs', async () => {
    expect(await sealedFilesOpenedBy(store, 'snapshot', 'create', 'web@running')).toEqual(eachTimes(1));
  });

  it('once to look at it and twice to use it, to start it', async () => {
    await store.done('snapshot', 'rm', '--wait', 'web@running');
    await store.done('stop', '-t', '0', 'web');
    expect(await sealedFilesOpenedBy(store, 'start', 'web')).toEqual(eachTimes(3));
  });
});

/** How often each of the snapshots’ files is opened by a command, and by those whom it starts. */
async function sealedFilesOpenedBy(store: TestStore, ...args: string[]): Promise<Record<string, number>> {
  const directory = join(store.root, 'containers');
  const sealed = Object.keys(eachTimes(0));
  // What was written just now is read again.
  const lastChanged = Math.max(...sealed.map((name) => statSync(join(directory, name)).ctimeMs));
  await expect.poll(() => Date.now() - lastChanged).toBeGreaterThan(500);
  const counter = await OpenCounter.start(directory);
  await store.done(...args);
  const opened = await counter.opened();
  return Object.fromEntries(sealed.map((name) => [name, opened[name] ?? 0]));
}

function eachTimes(times: number): Record<string, number> {
  const names = Array.from({ length: snapshots }, (_, index) => `web@s${index + 1}.${index === 0 ? 'img' : 'delta'}`);
  return Object.fromEntries(names.map((name) => [name, times]));
}

class OpenCounter {
  readonly #process;
  readonly #lines;

  private constructor(directory: string) {
    this.#process = spawn('python3', [join(import.meta.dirname, 'open-counter.py'), directory]);
    this.#lines = createInterface({ input: this.#process.stdout })[Symbol.asyncIterator]();
    cleanUp(() => void this.#process.kill('SIGKILL'));
  }

  static async start(directory: string): Promise<OpenCounter> {
    const counter = new OpenCounter(directory);
    // It says that it is ready.
    await counter.#lines.next();
    return counter;
  }

  /** Of each file since the start. */
  async opened(): Promise<Record<string, number>> {
    this.#process.stdin.write('\n');
    const { value } = await this.#lines.next();
    return JSON.parse(value ?? '') as Record<string, number>;
  }
}
