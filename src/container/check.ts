import { basename } from 'node:path';
import { explaining, LoopboxError } from '../errors';
import type { Chain } from '../image/chain';
import { checkView, isCorrupt } from '../image/check-view';
import { type LayerFile, openLayer } from '../image/layer-file';
import { mapProblems } from '../image/map-problems';
import { verifySeal } from '../image/seal';
import type { WorkOptions } from '../progress';
import { inspectRun } from '../runtime/status';
import { newFileBeside } from './new-file-beside';
import { openView } from './open-chain';
import { type RepairedContainer, repairContainer } from './repair';
import { parseSnapshotArgument, type SnapshotArgument } from './snapshot-names';
import type { Store } from './store';
import { StoreFiles } from './store-files';
import { requireName, resolveTarget } from './target';
import { workOn } from './work';

export interface CheckedFile {
  name: string;
  path: string;
  /** Null where it can't be told. */
  kind: LayerFile['kind'] | null;
  /** What is wrong with it; none where it is sound. */
  problems: string[];
}

/** What a check found. */
export interface CheckReport {
  name: string;
  /** Nothing is wrong, or what was wrong is put right and nothing was lost on the way. */
  sound: boolean;
  /** All files of the container, and those of others that it stands on. */
  files: CheckedFile[];
  /** What e2fsck says of the disk as it was found; null where it can't be put together. */
  fileSystem: string[] | null;
  repair: RepairedContainer | null;
}

export interface CheckOptions extends WorkOptions {
  /** Puts the file system right, in a new file that takes the place of the top. */
  repair?: boolean | undefined;
}

/**
 * Checks the manifest and map of each file of a container, a snapshot or a FILE, the identity of each parent, and the file system. What is
 * wrong is told, not thrown. Nothing is written but for a repair, which is of a container of the store, and keeps what was there wherever it
 * dropped anything.
 */
export async function checkContainer(store: Store, argument: string, options: CheckOptions = {}): Promise<CheckReport> {
  const { container, snapshot } = parseSnapshotArgument(argument);
  if (options.repair) await requireRepairable(store, argument, snapshot);
  const report = await explaining(`check "${argument}"`, () => checkState(store, argument, { container, snapshot }, options));
  if (report.repair?.kept === null) await takeAwayNeedless(store, container);
  return report;
}

/** What was the top until a repair that lost nothing: each command that begins takes such files away, once nobody has them open. */
async function takeAwayNeedless(store: Store, name: string): Promise<void> {
  await using _work = await workOn(store, name, 'repair');
}

async function checkState(
  store: Store,
  argument: string,
  { container, snapshot }: SnapshotArgument,
  options: CheckOptions,
): Promise<CheckReport> {
  const files = new CheckedFiles();
  const opened = await openView(store, argument, 'check', options.signal).catch((error: unknown) => {
    if (isCorrupt(error)) return error;
    throw error;
  });
  if (snapshot === undefined && !container.includes('/'))
    await files.addOwn(await StoreFiles.scan(store, { signal: options.signal }), container);
  if (opened instanceof LoopboxError) {
    files.addReason(opened, opened.path ?? container);
    return { name: argument, sound: false, files: files.all, fileSystem: null, repair: null };
  }
  await using view = opened;
  await files.addChain(view.chain);
  const fileSystem = await checkView(view.chain, () => newFileBeside(store, view.chain.top.path), options);
  const repair = options.repair && fileSystem.length > 0 ? await repairContainer(store, view, options) : null;
  const isWhole = repair ? repair.kept === null : fileSystem.length === 0;
  return {
    name: argument,
    sound: isWhole && files.all.every(({ problems }) => problems.length === 0),
    files: files.all,
    fileSystem,
    repair,
  };
}

async function requireRepairable(store: Store, argument: string, snapshot: string | undefined): Promise<void> {
  if (snapshot !== undefined) {
    throw new LoopboxError('ERR_LOOPBOX_USAGE', `Cannot repair "${argument}": a snapshot does not change`, {
      hint: `loopbox clone ${argument} NEW-NAME, and repair that`,
    });
  }
  const target = resolveTarget(store, argument);
  const name = requireName(target, 'repair');
  if (!(await inspectRun(target.directory)).running) return;
  throw new LoopboxError('ERR_LOOPBOX_WRONG_STATE', `Cannot repair "${argument}": it is running`, { hint: `loopbox stop ${name}` });
}

/** What is known of each file, by its path. */
class CheckedFiles {
  readonly #files = new Map<string, CheckedFile>();

  get all(): CheckedFile[] {
    return [...this.#files.values()];
  }

  /** All files that a container has, those of no chain and those that can't be read included. */
  async addOwn({ index }: StoreFiles, name: string): Promise<void> {
    for (const { path, manifest } of index.ofContainer(name)) await this.#addFile(path, manifest.kind);
    for (const { path, error } of index.damaged.filter(({ parsed }) => parsed?.name === name)) this.addFailure(error, path);
  }

  /** The files of an open chain, whose seals are verified. */
  async addChain(chain: Chain): Promise<void> {
    for (const layer of [...chain.layers].reverse()) if (!this.#files.has(layer.path)) await this.#addSound(layer);
  }

  /** Why the disk can't be put together: where that file is known to be damaged, all is said. */
  addReason(error: LoopboxError, path: string): void {
    if (!this.#files.get(path)?.problems.length) this.addFailure(error, path);
  }

  addFailure(error: LoopboxError, path: string, kind: CheckedFile['kind'] = null): void {
    const file = this.#files.get(path) ?? { name: basename(path), path, kind, problems: [] };
    const problem = error.message.replace(/^Cannot [a-z ]+ "[^"]*": /, '');
    if (!file.problems.includes(problem)) file.problems.push(problem);
    this.#files.set(path, file);
  }

  async #addFile(path: string, kind: CheckedFile['kind']): Promise<void> {
    try {
      await using file = await openLayer(path, { label: basename(path), noFollow: true });
      await verifySeal(file);
      await this.#addSound(file);
    } catch (error) {
      if (!(error instanceof LoopboxError)) throw error;
      // It may have been renamed or merged meanwhile.
      if (error.code !== 'ERR_LOOPBOX_NOT_FOUND') this.addFailure(error, path, kind);
    }
  }

  async #addSound(file: LayerFile): Promise<void> {
    const { path, kind } = file;
    const problems = file.kind === 'delta' ? await mapProblems(file) : [];
    this.#files.set(path, { name: basename(path), path, kind, problems });
  }
}
