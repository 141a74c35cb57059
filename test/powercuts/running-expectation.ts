import { execFileSync } from 'node:child_process';
import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Expectation } from './campaign';
import type { Entry } from './log';
import type { StateReader, View } from './reader';
import { expectNothingHalfMade, expectOneContentEach, named } from './verb-expectation';

/** What a file that was told of holds. */
export function contentOf(file: string): string {
  return `${file}\n`.repeat(500);
}

/**
 * Of a container that runs on ext4. Marks tell of it: `file F` is synced, `snapshot S` is taken, `removing S` begins, `removed S` has
 * ended; a snapshot that is `taking` may be there.
 */
export class RunningExpectation implements Expectation {
  readonly #files: string[] = [];
  /** Whether a snapshot must be there, and which files must be in it. */
  readonly #snapshots = new Map<string, { isSure: boolean; files: string[] }>();
  readonly #shown = new Map<string, { view: string; blocks: Buffer[] }>();
  readonly #sound = new Set<string>();

  /** `directory` is for what is looked at. */
  constructor(private readonly directory: string) {}

  see({ kind, path }: Entry): void {
    if (kind !== 'mark') return;
    const [what, name = ''] = path.split(' ');
    const snapshot = this.#snapshots.get(name);
    if (what === 'file') this.#files.push(name);
    else if (what === 'taking') this.#snapshots.set(name, { isSure: false, files: [...this.#files] });
    else if (what === 'snapshot' && snapshot) snapshot.isSure = true;
    else if (what === 'removing' && snapshot) snapshot.isSure = false;
    else if (what === 'removed') this.#snapshots.delete(name);
    else throw new Error(`Nobody knows the mark "${path}"`);
  }

  /** Each snapshot shows the same whenever it is there. */
  holdsAtOnce(reader: StateReader): void {
    for (const [name, path] of named(reader)) {
      const view = reader.view(reader.emptiedInto(path) ?? path);
      if (name !== 'web') this.#expectSame(name, view);
    }
  }

  #expectSame(name: string, view: View): void {
    const shown = this.#shown.get(name);
    if (shown?.view === view.key) return;
    const difference = shown ? view.differsFrom(shown.blocks) : -1;
    if (difference >= 0) throw new Error(`"${name}" is not what it was, in block ${difference}`);
    this.#shown.set(name, { view: view.key, blocks: view.blocks() });
  }

  holdsRecovered(reader: StateReader): void {
    expectNothingHalfMade(reader);
    const names = named(reader);
    for (const [name, path] of names) {
      const snapshot = this.#snapshots.get(name);
      if (name !== 'web' && !snapshot) throw new Error(`"${name}" is there`);
      if (name !== 'web') this.#expectSame(name, reader.view(path));
      this.#expectSound(name, reader.view(path), snapshot?.files ?? this.#files);
    }
    for (const [name, { isSure }] of [['web', { isSure: true }] as const, ...this.#snapshots])
      if (isSure && !names.has(name)) throw new Error(`"${name}" is not there`);
    expectOneContentEach(reader);
  }

  /** What is left is a clean file system, once its journal is replayed, and has what was synced. */
  #expectSound(name: string, view: View, files: readonly string[]): void {
    const key = `${view.key} ${files.length}`;
    if (this.#sound.has(key)) return;
    this.#sound.add(key);
    const path = join(this.directory, 'view');
    writeFileSync(path, Buffer.concat(view.blocks()));
    try {
      run('e2fsck', '-fp', path);
      run('e2fsck', '-fn', path);
      writeFileSync(`${path}.commands`, files.map((file) => `cat /root/${file}\n`).join(''));
      const lines = run('debugfs', '-f', `${path}.commands`, path).split('\n');
      const found = lines.filter((line) => !line.startsWith('debugfs: ')).join('\n');
      if (found !== files.map(contentOf).join(''))
        throw new Error(`"${name}" has lost something of /root/{${files.join()}}: ${found.slice(-200)}`);
    } finally {
      rmSync(path);
    }
  }
}

function run(command: string, ...args: string[]): string {
  try {
    return execFileSync(command, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
  } catch (error) {
    const { status, stdout } = error as { status: number; stdout: string };
    // A replayed journal is a repair, too.
    if (command === 'e2fsck' && args[0] === '-fp' && status === 1) return stdout;
    throw new Error(`${command} ${args.join(' ')} ends with ${status}: ${stdout}`, { cause: error });
  }
}
