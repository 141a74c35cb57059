import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { contentOfView, manifestOf } from '../chain-view';
import { fileOfState, withDisk } from '../disk-view';
import { execute, shell } from '../execute';
import { contentOf, withStockMount } from '../image-view';
import type { TestStore } from '../store';
import { containerFiles } from '../truth';

/** The states of a store's containers by their names (`web`, `web@mon`), and what each has to hold. */
export class TrueNames {
  readonly #contents = new Map<string, string>();
  /** What was found in files that nobody has written to or renamed since. */
  readonly #known = new Map<string, string>();

  constructor(readonly store: TestStore) {}

  get names(): string[] {
    return [...this.#contents.keys()].sort();
  }

  content(state: string): string {
    const content = this.#contents.get(state);
    if (content === undefined) throw new Error(`There is no "${state}"`);
    return content;
  }

  set(state: string, content: string): void {
    this.#contents.set(state, content);
  }

  delete(...states: string[]): void {
    for (const state of states) this.#contents.delete(state);
  }

  /** All that has one container's name has another one. */
  renameAll(from: string, to: string): void {
    for (const [state, content] of Array.from(this.#contents)) {
      if (state !== from && !state.startsWith(`${from}@`)) continue;
      this.#contents.delete(state);
      this.#contents.set(to + state.slice(from.length), content);
    }
  }

  /** Lists what is wrong. The present of what runs is no file that could be looked at. */
  async lies(running: readonly string[]): Promise<string[]> {
    await this.#awaitMerges();
    const lies = this.#liesOfNames();
    for (const [state, content] of lies.length > 0 ? [] : this.#contents) {
      if (running.includes(state)) continue;
      if ((await this.read(state)) !== content) lies.push(`${state} holds something else`);
    }
    return lies;
  }

  #liesOfNames(): string[] {
    const files = containerFiles(this.store);
    const odd = files.filter((file) => !/^[^@.][^@]*(@[^@]+)?\.(img|delta)$/.test(file));
    const named = files.filter((file) => !/@~/.test(file)).map((file) => file.replace(/\.(img|delta)$/, ''));
    const isSame = named.sort().join(' ') === this.names.join(' ');
    return [...odd.map((file) => `${file} is half-made`), ...(isSame ? [] : [`There are ${named.join(' ')}, not ${this.names.join(' ')}`])];
  }

  /** The content of a state: by a reader that shares nothing with loopbox, and, where its file is an image, by a stock mount. */
  async read(state: string): Promise<string> {
    const [path = '', ...below] = this.#chain(state);
    const key = [path, ...below].map(fingerprint).join('\n');
    const known = this.#known.get(key);
    if (known !== undefined) return known;
    const content = await withDisk(this.store, state, async (disk) => {
      await shell('e2fsck', '-fn', disk);
      return await contentOfView(disk);
    });
    if (path.endsWith('.img') && (await withStockMount(path, contentOf)) !== content) throw new Error(`${path} is not what it stands for`);
    this.#known.set(key, content);
    return content;
  }

  /** The files of a state, its own first, as each delta says what it stands on. */
  #chain(state: string): string[] {
    const files = ['containers', 'templates'].flatMap((place) => {
      const directory = join(this.store.root, place);
      return readdirSync(directory).map((file) => join(directory, file));
    });
    const chain = [fileOfState(this.store, state)];
    for (let path = chain[0]; path?.endsWith('.delta'); path = chain.at(-1)) {
      const { parent } = manifestOf(path) as { parent?: { state: string; hint: string } };
      const below = files.find((file) => !chain.includes(file) && /\.(img|delta)$/.test(file) && manifestOf(file).state === parent?.state);
      if (!below || !parent?.hint) throw new Error(`${path} does not say what it needs, or that is not there: ${JSON.stringify(parent)}`);
      chain.push(below);
    }
    return chain;
  }

  /** What goes on behind a verb changes files, but no state. */
  async #awaitMerges(): Promise<void> {
    const merging = ['-f', `run-root ${this.store.runRoot} .*settle`];
    while ((await execute('pgrep', merging)).code === 0) await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

/** Changes when the file is written to or renamed, or is another one. */
function fingerprint(path: string): string {
  const { ino, size, ctimeNs } = statSync(path, { bigint: true });
  return [path, ino, size, ctimeNs].join(' ');
}
