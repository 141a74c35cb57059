import { existsSync, readFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect } from 'vitest';
import { Store } from '../../src/container/store';
import { fileInDisk, hashOfDisk, recoverDisk, withDisk } from '../disk-view';
import { heldByKernel, keptOnHost } from '../remains';
import type { TestStore } from '../store';
import { containerFiles } from '../truth';

/** Appends numbered lines to a file, and prints each number when it is on the disk. It goes on where it ended. */
const keepRecords = `i=$(tail -n 1 /records 2>/dev/null); i=\${i:-0}
while :; do i=$((i + 1)); echo $i | dd of=/records oflag=append conv=notrunc,fsync 2>/dev/null && echo $i; done`;

/** The command of a container that keeps records. */
export const recordKeeper = ['--', 'sh', '-c', keepRecords];

/** How long a write may wait that is made when nothing freezes the container any more: for a disk of the host that is busy, not for the limit of a freeze. */
const writtenWithinMs = 5000;

/** A container whose command is `recordKeeper`, and what is known of its states. */
export class RecordKeeper {
  /** What each snapshot was when it was first seen. */
  readonly #snapshots = new Map<string, string>();

  constructor(
    readonly store: TestStore,
    readonly name: string,
  ) {}

  /** The last record that a run has said to be on the disk; 0 where none has said anything. */
  acknowledged(): number {
    const last = this.#log().match(/ (\d+)\n[^\n]*$/);
    return Number(last?.[1] ?? 0);
  }

  async isRunning(): Promise<boolean> {
    return (await this.store.done('ps', '-q')).split('\n').includes(this.name);
  }

  /** What is wrong with the disk of its run. */
  async trouble(): Promise<string> {
    const { state, reason = '' } = await this.store.inspect(this.name);
    return state === 'running' ? String(reason) : '';
  }

  /** Starts it, and waits for its first record. */
  async start(): Promise<void> {
    if (await this.isRunning()) return;
    const before = this.#log().length;
    await this.store.done('start', this.name);
    await expectSoon(() => this.#log().length > before, true);
  }

  /** Stops it, and expects that nothing of it is left on the host but its files. */
  async stop(): Promise<void> {
    await this.store.done('stop', '-t', '0', this.name);
    await this.expectAtRest();
  }

  async expectAtRest(): Promise<void> {
    await this.store.done('ls');
    await expectSoon(() => [...heldByKernel(this.store), ...keptOnHost(this.store)], []);
    // What goes on behind a verb changes files.
    await expectSoon(() => this.store.mergers(), []);
  }

  /** Expects that it is not frozen. */
  async expectWrites(): Promise<void> {
    const { pid } = (await this.store.inspect(this.name)) as { pid: number | null };
    const written = writeFile(join(`/proc/${pid}/root`, 'note'), String(Date.now())).then(() => 'written');
    expectSame(await Promise.race([written, sleep(writtenWithinMs, 'frozen')]), 'written');
  }

  /** The names of all snapshots that there are, sorted. */
  snapshots(): string[] {
    return containerFiles(this.store).flatMap((file) => /^([^@]+@[^~]+)\.(img|delta)$/.exec(file)?.[1] ?? []);
  }

  /** Tells that a snapshot has another name now. */
  renamed(from: string, to: string): void {
    const hash = this.#snapshots.get(from);
    if (hash !== undefined) this.#snapshots.set(to, hash);
    this.#snapshots.delete(from);
  }

  /** Expects that there are these snapshots and no others, that each is what it was when it was first seen, and sound. */
  async expectSnapshots(expected: readonly string[]): Promise<void> {
    expectSame(this.snapshots(), [...expected].sort());
    for (const name of this.#snapshots.keys()) if (!expected.includes(name)) this.#snapshots.delete(name);
    for (const name of expected) {
      const hash = await withDisk(this.store, name, async (disk) => {
        const hash = await hashOfDisk(disk);
        if (!this.#snapshots.has(name)) await recoverDisk(disk);
        return hash;
      });
      expectSame([name, hash], [name, this.#snapshots.get(name) ?? hash]);
      this.#snapshots.set(name, hash);
    }
  }

  /** The number of records in a state, which are in order and complete; its file system is sound once its journal is replayed. */
  async records(state = this.name): Promise<number> {
    const records = await withDisk(this.store, state, async (disk) => {
      await recoverDisk(disk);
      return await fileInDisk(disk, '/records');
    });
    return countRecords(records);
  }

  /** Expects that there are only files of states: nothing half-made. */
  expectNoHalves(): void {
    const isState = (file: string) => /^[^@.][^@]*(@[^@]+)?\.(img|delta)$/.test(file);
    expectSame(
      containerFiles(this.store).filter((file) => !isState(file)),
      [],
    );
  }

  /** Empty before its first run. */
  #log(): string {
    const { root, runRoot } = this.store;
    const path = new Store({ root, runRoot }).logPath(this.name);
    return existsSync(path) ? readFileSync(path, 'latin1') : '';
  }
}

/** Numbers from 1 on, without a gap. */
function countRecords(text: string): number {
  const lines = text.split('\n').slice(0, -1);
  expectSame(
    lines.findIndex((line, index) => line !== String(index + 1)),
    -1,
  );
  return lines.length;
}

function expectSame(actual: unknown, expected: unknown): void {
  expect(actual).toEqual(expected);
}

async function expectSoon(look: () => unknown, expected: unknown): Promise<void> {
  await expect.poll(look, { interval: 10 }).toEqual(expected);
}
