import { basename } from 'node:path';
import { type IndexedFile, type ScanOptions, StateIndex } from '../image/state-index';
import type { Store } from './store';

/** The files of a store as they stand on each other, of one moment. */
export class StoreFiles {
  readonly index: StateIndex;
  readonly #store: Store;
  readonly #below = new Map<IndexedFile, IndexedFile>();
  readonly #above = new Map<IndexedFile, IndexedFile[]>();

  private constructor(store: Store, index: StateIndex) {
    this.#store = store;
    this.index = index;
    for (const file of index.files) {
      const below = file.manifest.kind === 'delta' && isPartOfStates(file) ? index.below(file) : undefined;
      if (!below) continue;
      this.#below.set(file, below);
      this.#above.set(below, [...(this.#above.get(below) ?? []), file]);
    }
  }

  static async scan(store: Store, options: Pick<ScanOptions, 'signal' | 'held'> = {}): Promise<StoreFiles> {
    const { containersDirectory, templatesDirectory } = store;
    return new StoreFiles(store, await StateIndex.scan([containersDirectory, templatesDirectory], { ...options, containersDirectory }));
  }

  /** The files that hold a container's states: its present first, then snapshots, oldest first, then what has no name. */
  ofContainer(name: string): IndexedFile[] {
    return this.index
      .ofContainer(name)
      .filter(isPartOfStates)
      .sort((a, b) => rankOf(a) - rankOf(b) || compare(timeOf(a), timeOf(b)) || compare(a.fileName, b.fileName));
  }

  top(name: string): IndexedFile | undefined {
    return this.ofContainer(name).find(({ parsed }) => parsed?.role === 'top');
  }

  snapshots(name: string): IndexedFile[] {
    return this.ofContainer(name).filter(({ parsed }) => parsed?.role === 'snapshot');
  }

  template(name: string): IndexedFile | undefined {
    const path = this.#store.templatePath(name);
    return this.index.files.find((file) => file.path === path);
  }

  /** The file that a delta stands on; undefined for an image, and where that file is missing. */
  below(file: IndexedFile): IndexedFile | undefined {
    return this.#below.get(file);
  }

  /** The files that stand on this one. */
  above(file: IndexedFile): readonly IndexedFile[] {
    return this.#above.get(file) ?? [];
  }

  /** The files that make up a file's state, itself first, as far as they are there. */
  chain(file: IndexedFile): IndexedFile[] {
    const chain: IndexedFile[] = [];
    for (let at: IndexedFile | undefined = file; at && !chain.includes(at); at = this.below(at)) chain.push(at);
    return chain;
  }

  /** Those of the files that stand on this one that nothing else could hold up: no other file provides its state. */
  dependents(file: IndexedFile): readonly IndexedFile[] {
    return this.index.providers(file.manifest.state).some((other) => other !== file) ? [] : this.above(file);
  }

  /** The containers other than NAME that need a file of NAME, or a template, each once, with the file. Throws where a file that is not NAME's can't be read. */
  usersOf(files: readonly IndexedFile[], name?: string): { user: string; file: IndexedFile }[] {
    this.index.requireRead(({ parsed }) => name === undefined || parsed?.name !== name);
    const users = files.flatMap((file) =>
      this.dependents(file)
        .filter((above) => this.isContainers(above) && above.parsed?.name !== name)
        .map((above) => ({ user: above.parsed?.name ?? above.path, file })),
    );
    return users.filter(({ user }, index) => users.findIndex((other) => other.user === user) === index);
  }

  /** As messages call a file: `web`, `web@mon`, `web@~1`, a template's name. */
  nameOf(file: Pick<IndexedFile, 'path' | 'directory' | 'parsed'>): string {
    if (file.directory === this.#store.templatesDirectory) return basename(file.path, '.img');
    const { parsed } = file;
    if (!this.isContainers(file) || !parsed) return file.path;
    if (parsed.role === 'snapshot') return `${parsed.name}@${parsed.snapshot}`;
    return parsed.role === 'nameless' || parsed.role === 'fold' ? `${parsed.name}@~${parsed.number}` : parsed.name;
  }

  private isContainers({ directory }: Pick<IndexedFile, 'directory'>): boolean {
    return directory === this.#store.containersDirectory;
  }
}

/** What is being prepared holds no state yet. */
function isPartOfStates({ fileName }: IndexedFile): boolean {
  return !fileName.endsWith('.next');
}

function rankOf({ parsed }: IndexedFile): number {
  return parsed?.role === 'top' ? 0 : parsed?.role === 'snapshot' ? 1 : 2;
}

function timeOf({ manifest }: IndexedFile): string {
  return manifest.snapshot?.created ?? '';
}

function compare(a: string, b: string): number {
  return a < b ? -1 : Number(a > b);
}
