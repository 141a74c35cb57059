import { lstatSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { explain, isSystemError, LoopboxError } from '../errors';
import { type FileName, parseFileName } from './file-names';
import type { HeldFiles } from './held-files';
import { type LayerFile, openLayer } from './layer-file';
import { type FoldRecord, type Manifest, noState, type SealRecord } from './manifest';

/** A file with a manifest, as it was when the directory was looked at. */
export interface IndexedFile {
  readonly path: string;
  readonly directory: string;
  readonly fileName: string;
  /** Undefined where the file is called otherwise than a container's files are. */
  readonly parsed: FileName | undefined;
  readonly device: bigint;
  readonly inode: bigint;
  readonly manifest: Manifest;
}

/** A file that bears an ending of ours and can't be read. */
export interface DamagedFile {
  readonly path: string;
  readonly directory: string;
  readonly fileName: string;
  readonly parsed: FileName | undefined;
  readonly error: LoopboxError;
}

/** What is under a name: no file of ours where it is undefined, and none at all any more where it is null. */
export type Found = IndexedFile | DamagedFile | undefined | null;

export interface ScanOptions {
  /** The store's directory of containers: only in it `fold` and `formerly` mean anything. */
  containersDirectory?: string | undefined;
  /** Which files are looked at; all unless told. */
  only?: ((fileName: string) => boolean) | undefined;
  /** What was read before, by path: kept and used by scans that follow on each other. */
  seen?: Map<string, Found> | undefined;
  /** What was read under the verb lock that the caller holds. */
  held?: HeldFiles | undefined;
  /** Makes each file durable before it is read: what a killed command left in the page cache must not be believed. */
  sync?: boolean;
  signal?: AbortSignal | undefined;
}

/** How many files are looked at at once. */
const width = 16;

/** How often a directory is looked at, at most, while files in it go away or get other names. */
const attempts = 10;

/** What the files of some directories say about states: who provides one, who stands on it. Manifests only; nothing is locked. */
export class StateIndex {
  readonly files: readonly IndexedFile[];
  readonly damaged: readonly DamagedFile[];
  readonly #directories: readonly string[];
  readonly #containersDirectory: string | undefined;
  readonly #byState = new Map<string, IndexedFile[]>();
  readonly #byParent = new Map<string, IndexedFile[]>();

  private constructor(directories: string[], files: IndexedFile[], damaged: DamagedFile[], containersDirectory: string | undefined) {
    this.files = files;
    this.damaged = damaged;
    this.#directories = directories;
    this.#containersDirectory = containersDirectory;
    for (const file of files) {
      const { state, parent } = file.manifest;
      if (state !== noState && !isPrepared(file)) addTo(this.#byState, state, file);
      if (parent && !isPrepared(file)) addTo(this.#byParent, parent.state, file);
    }
  }

  /**
   * Reads the manifests of all regular files of these directories, in order of preference (a FILE's own first). Symbolic links, hidden
   * files and what is no file of ours are passed over; what is missing is empty. A file that is renamed meanwhile is found.
   */
  static async scan(directories: readonly string[], options: ScanOptions = {}): Promise<StateIndex> {
    const files: IndexedFile[] = [];
    const damaged: DamagedFile[] = [];
    const distinct = [...new Set(directories)];
    for (const directory of distinct) {
      for (const found of await lookInto(directory, options)) {
        if ('manifest' in found) files.push(found);
        else damaged.push(found);
      }
    }
    return new StateIndex(distinct, files, damaged, options.containersDirectory);
  }

  /**
   * The files that hold a state, the best first: those of the container of `near`, then in the order of the directories. Of those a whole image
   * comes first: a delta of the same state may have been emptied into it. Only sealed files do; and, last, those of the container of `near`
   * that are no present any more: a commit has yet to seal one.
   */
  providers(state: string, near?: Pick<IndexedFile, 'directory' | 'parsed'>): IndexedFile[] {
    const rank = (file: IndexedFile) => {
      const isDelta = Number(file.manifest.kind === 'delta');
      if (!file.manifest.sealed) return 4 + 2 * this.#directories.length + isDelta;
      return near && isSameContainer(file, near) ? isDelta : 2 + isDelta + 2 * this.#directories.indexOf(file.directory);
    };
    const isProvider = (file: IndexedFile) =>
      file.manifest.sealed !== undefined || (near && isSameContainer(file, near) && file.parsed?.role !== 'top');
    return (this.#byState.get(state) ?? []).filter(isProvider).sort((a, b) => rank(a) - rank(b));
  }

  /** The files whose `parent` is this state. Throws where one of all those that were looked at could not be read: it may be such a file. */
  children(state: string): readonly IndexedFile[] {
    this.requireRead();
    return this.#byParent.get(state) ?? [];
  }

  /** Whether something stands on a file. Throws as `children`, unless it is not sealed: then at most a commit has yet to seal it. */
  isStoodOn({ state, sealed }: Manifest): boolean {
    return (sealed ? this.children(state) : (this.#byParent.get(state) ?? [])).length > 0;
  }

  /** The files that could not be read, whatever is in them: what stands on what is uncertain then. */
  get unread(): readonly DamagedFile[] {
    return this.damaged.filter(({ error }) => !['ERR_LOOPBOX_CORRUPT', 'ERR_LOOPBOX_NOT_SUPPORTED'].includes(error.code));
  }

  requireRead(counts: (file: DamagedFile) => boolean = () => true): void {
    const unread = this.unread.find(counts);
    if (unread) throw unread.error;
  }

  /** The files of a container of the store, `.next` and all. */
  ofContainer(name: string): IndexedFile[] {
    return this.files.filter(({ directory, parsed }) => directory === this.#containersDirectory && parsed?.name === name);
  }

  /** The running fold that a file is the source (`to`) or the heir (`keep`) of: both stand on the image that is folded into. */
  foldOf(
    file: Pick<IndexedFile, 'directory' | 'parsed'>,
    state: string,
  ): { image: IndexedFile; fold: FoldRecord; role: 'to' | 'keep' } | undefined {
    if (file.directory !== this.#containersDirectory || !file.parsed) return undefined;
    for (const image of this.files) {
      const { fold } = image.manifest;
      if (!fold || isPrepared(image) || !isSameContainer(image, file)) continue;
      if (fold.to === state) return { image, fold, role: 'to' };
      if (fold.keep === state) return { image, fold, role: 'keep' };
    }
    return undefined;
  }

  /**
   * The link rule: below the source and the heir of a fold is the file that says so, below a delta that absorbs its parent that, as long as it
   * stands there; below any other delta whatever provides its parent's state. Undefined where nobody does, and of a file that is not the one
   * that a merge means (`mergeBeside`).
   */
  below(file: Pick<IndexedFile, 'directory' | 'parsed' | 'manifest' | 'device' | 'inode'>): IndexedFile | undefined {
    const merge = this.foldOf(file, file.manifest.state);
    const { parent } = file.manifest;
    if (merge && !isMeant(file.manifest, merge)) return undefined;
    if (merge && (merge.image.manifest.kind === 'image' || parent?.state === merge.fold.was)) return merge.image;
    return parent && this.providers(parent.state, file).find((other) => !isSameFile(other, file));
  }

  /** The file that is being merged with one of this state, where this is not that one but another copy of it: the two must not be read together. */
  mergeBeside(file: Pick<IndexedFile, 'directory' | 'parsed' | 'manifest'>): IndexedFile | undefined {
    const merge = this.foldOf(file, file.manifest.state);
    return merge && !isMeant(file.manifest, merge) ? merge.image : undefined;
  }
}

/**
 * Whether a file of a state that a merge names is the one that it means: it stands where it stood when that began, or where it shall stand at
 * the end; and has no evidence in between, if the merge writes to it.
 */
function isMeant(
  { parent, sealed }: Manifest,
  { image, fold, role }: { image: IndexedFile; fold: FoldRecord; role: 'to' | 'keep' },
): boolean {
  const isWritten = !sealed || !hasEvidence(sealed);
  if (image.manifest.kind === 'delta') return parent?.state !== fold.was || isWritten;
  if (role === 'to') return parent?.state === fold.was;
  return parent?.state === fold.to || ((parent === undefined || parent.state === fold.was) && isWritten);
}

/** Whether a seal can be checked. */
export function hasEvidence({ superblockCrc32c, mapCrc32c }: SealRecord): boolean {
  return superblockCrc32c !== undefined || mapCrc32c !== undefined;
}

/**
 * Whether a merge names this file of a container, by its state: the merge has drawn that, and what it writes to can't be checked before it is
 * through. The directory counts as a store's.
 */
export async function isInMerge({ path, manifest }: LayerFile, held?: HeldFiles): Promise<boolean> {
  const [directory, parsed] = [dirname(path), parseFileName(basename(path))];
  if (!parsed || !manifest) return false;
  const only = (fileName: string) => parseFileName(fileName)?.name === parsed.name;
  const index = await StateIndex.scan([directory], { containersDirectory: directory, only, held });
  return index.foldOf({ directory, parsed }, manifest.state) !== undefined;
}

export function isSameFile(a: Pick<IndexedFile, 'device' | 'inode'>, b: Pick<IndexedFile, 'device' | 'inode'>): boolean {
  return a.device === b.device && a.inode === b.inode;
}

/** Whether two files lie in one directory and are called after one container. */
export function isSameContainer(a: Pick<IndexedFile, 'directory' | 'parsed'>, b: Pick<IndexedFile, 'directory' | 'parsed'>): boolean {
  return a.directory === b.directory && a.parsed !== undefined && a.parsed.name === b.parsed?.name;
}

/** What is being prepared is no part of any chain. */
function isPrepared({ fileName }: Pick<IndexedFile, 'fileName'>): boolean {
  return fileName.endsWith('.next');
}

function addTo<T>(map: Map<string, T[]>, key: string, value: T): void {
  const list = map.get(key);
  if (list) list.push(value);
  else map.set(key, [value]);
}

/** The regular files of a directory, hidden ones left out, in order; none where it is missing. */
export async function regularFiles(path: string): Promise<string[]> {
  try {
    const entries = await readdir(path, { withFileTypes: true });
    return entries
      .filter((entry) => entry.isFile() && !entry.name.startsWith('.'))
      .map(({ name }) => name)
      .sort();
  } catch (error) {
    if (isSystemError(error, 'ENOENT', 'ENOTDIR')) return [];
    throw explain(error, `look into "${path}"`, { path });
  }
}

/** All files of a directory that are ours. What has gone since it was listed may have another name: the directory is listed again. */
async function lookInto(directory: string, options: ScanOptions): Promise<(IndexedFile | DamagedFile)[]> {
  const looks = new Map<string, Found>();
  for (let attempt = 1; ; attempt++) {
    const names = (await regularFiles(directory)).filter(options.only ?? (() => true));
    const unseen = names.filter((name) => !isStill(join(directory, name), looks.get(name)));
    for (let start = 0; start < unseen.length; start += width) {
      options.signal?.throwIfAborted();
      const some = unseen.slice(start, start + width);
      const found = await Promise.all(some.map((name) => lookOnce(directory, name, attempt > 1, options)));
      for (const [index, name] of some.entries()) looks.set(name, found[index]);
    }
    if (attempt === attempts || names.every((name) => looks.get(name) !== null)) return names.flatMap((name) => looks.get(name) ?? []);
  }
}

/** Whether the file that was found is still there by this name. */
function isStill(path: string, found: Found): boolean {
  if (!found || !('inode' in found)) return false;
  const status = lstatSync(path, { bigint: true, throwIfNoEntry: false });
  return status?.ino === found.inode && status.dev === found.device;
}

async function lookOnce(directory: string, fileName: string, anew: boolean, { seen, held, sync = false }: ScanOptions): Promise<Found> {
  const path = join(directory, fileName);
  if (seen?.has(path) && !anew) return seen.get(path);
  const look = () => lookAt(directory, fileName, sync);
  const found = await (held?.look(path, look, sync) ?? look());
  if (found !== null) seen?.set(path, found);
  return found;
}

/** A merge keeps a file to itself for a batch. */
const leasePatienceMs = 1000;

async function lookAt(directory: string, fileName: string, sync: boolean): Promise<Found> {
  const place = { path: join(directory, fileName), directory, fileName, parsed: parseFileName(fileName) };
  try {
    await using file = await openPatiently(place.path, sync);
    const { device, inode, manifest } = file;
    return manifest && { ...place, device, inode, manifest };
  } catch (error) {
    // What can't be made durable can't be decided by, nor passed over.
    if (!(error instanceof LoopboxError) || (isSystemError(error.cause) && error.cause.syscall === 'fsync')) throw error;
    if (error.code === 'ERR_LOOPBOX_NOT_FOUND') return null;
    // It is a stranger's.
    if (!place.parsed && !/\.(img|delta)$/.test(fileName)) return undefined;
    return { ...place, error };
  }
}

async function openPatiently(path: string, sync: boolean): Promise<LayerFile> {
  for (const deadline = Date.now() + leasePatienceMs; ; await sleep(10)) {
    try {
      return await openLayer(path, { noFollow: true, sync });
    } catch (error) {
      if (!(error instanceof LoopboxError && error.code === 'ERR_LOOPBOX_IN_USE') || Date.now() >= deadline) throw error;
    }
  }
}
