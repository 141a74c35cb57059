import { join } from 'node:path';
import { explaining, LoopboxError } from '../errors';
import { tryLock } from '../flock';
import { native } from '../native';
import { type FileName, formatFileName, freshNumber, parseFileName } from './file-names';
import { punchOldSlots } from './grow-image';
import { writeManifest } from './image-file';
import type { HeldFiles } from './held-files';
import { openLayer } from './layer-file';
import type { Manifest } from './manifest';
import { syncDirectory } from './new-file';
import { seal } from './seal';
import { type IndexedFile, isSameFile, regularFiles, StateIndex } from './state-index';
import { unlinkNeedless } from './unlink-file';

export interface RecoverOptions {
  /** Of a running container: the file that is its top, as who serves it says; the directory has no say then. */
  live?: { device: bigint; inode: bigint } | undefined;
  /** Moves what else bears the container's name, when a rename that was cut is finished. Idempotent. */
  renameRest?: ((from: string, to: string) => Promise<void>) | undefined;
  /** Keeps what is read of the files here. */
  held?: HeldFiles | undefined;
}

/**
 * Finishes what a cut or a kill left half done of a container's files: names and seals, never a disk's blocks. For the holder of the
 * container's verb lock. First all of it is made durable, because what is decided is decided by it. Idempotent; the steps that were
 * taken are returned, in words.
 * CORRUPT, and nothing is touched, where two files claim to be the present, or something would be lost. Fails likewise where one can't be read.
 */
export async function recover(containersDirectory: string, name: string, options: RecoverOptions = {}): Promise<string[]> {
  const steps: string[] = [];
  await explaining(`recover "${name}"`, async () => {
    for await (const step of recoverSteps(containersDirectory, name, options)) steps.push(step);
  });
  return steps;
}

/** `recover`, a step at a time. */
export async function* recoverSteps(directory: string, name: string, options: RecoverOptions = {}): AsyncGenerator<string> {
  const files = await ContainerFiles.read(directory, name, options.held);
  requireOneTop(files, options);
  yield* settleNext(files, options);
  yield* hideFolds(files);
  yield* cleanGrown(files);
  yield* showImages(files);
  yield* settleHalfMade(files);
  await files.sync();
  yield* sealKept(files, options);
  if (!options.live) yield* finishRename(files, options);
}

/** The files of a container, as they are called by now. */
class ContainerFiles {
  #isSynced = true;

  private constructor(
    readonly directory: string,
    readonly name: string,
    /** All names, damaged and foreign files' too. */
    readonly names: Set<string>,
    private files: IndexedFile[],
  ) {}

  /** Makes all of them durable on the way, because what is decided is decided by them. */
  static async read(directory: string, name: string, held?: HeldFiles): Promise<ContainerFiles> {
    const names = new Set((await regularFiles(directory)).filter((fileName) => parseFileName(fileName)?.name === name));
    const only = (fileName: string) => names.has(fileName);
    const index = await StateIndex.scan([directory], { containersDirectory: directory, only, held, sync: true });
    await syncDirectory(directory);
    index.requireRead();
    return new ContainerFiles(directory, name, names, [...index.files]);
  }

  all(): readonly IndexedFile[] {
    return [...this.files];
  }

  get(fileName: string): IndexedFile | undefined {
    return this.files.find((file) => file.fileName === fileName);
  }

  tops(): string[] {
    return (['img', 'delta'] as const)
      .map((extension) => formatFileName({ role: 'top', name: this.name, extension }))
      .filter((fileName) => this.names.has(fileName));
  }

  async rename(file: IndexedFile, to: FileName): Promise<string> {
    const fileName = formatFileName(to);
    await native().renameNoReplace(file.path, join(this.directory, fileName));
    this.#isSynced = false;
    this.names.delete(file.fileName);
    this.names.add(fileName);
    const moved = { ...file, fileName, path: join(this.directory, fileName), parsed: to };
    this.files = this.files.map((one) => (one === file ? moved : one));
    return `"${file.fileName}" is "${fileName}"`;
  }

  async unlink(file: IndexedFile, proof: Parameters<typeof unlinkNeedless>[1]): Promise<string> {
    await this.sync();
    await unlinkNeedless(file, proof);
    this.#isSynced = false;
    this.names.delete(file.fileName);
    this.files = this.files.filter((one) => one !== file);
    return `"${file.fileName}" is gone`;
  }

  async sync(): Promise<void> {
    if (this.#isSynced) return;
    await syncDirectory(this.directory);
    this.#isSynced = true;
  }
}

function requireOneTop(files: ContainerFiles, { live }: RecoverOptions): void {
  const tops = files.tops();
  const [first, second] = tops.map((fileName) => files.get(fileName));
  if (tops.length === 2 && !(first?.manifest.fold || (first && second && first.manifest.state === second.manifest.state)))
    throw uncertain(files, `both "${tops[0]}" and "${tops[1]}" claim to be its present`, 'move one of them away');
  if (!live) return;
  const served = files.all().find((file) => isSameFile(file, live));
  if (tops.length === 1 && (served ? served === first : first === undefined)) return;
  throw uncertain(
    files,
    `it runs on ${served ? `"${served.fileName}"` : 'a file of another name'}, and its top is "${tops[0] ?? 'missing'}"`,
  );
}

/** A top that was prepared: it is one where the old top has gone aside already, and else nothing. */
async function* settleNext(files: ContainerFiles, { live }: RecoverOptions): AsyncGenerator<string> {
  const fileName = formatFileName({ role: 'next', name: files.name });
  if (!files.names.has(fileName)) return;
  const next = files.get(fileName);
  if (!next) throw uncertain(files, `"${fileName}" can't be read`, `move ${join(files.directory, fileName)} away`);
  if (files.tops().length > 0) yield await files.unlink(next, { why: 'prepared' });
  else if (!live)
    yield await files.rename(next, { role: 'top', name: files.name, extension: next.manifest.kind === 'image' ? 'img' : 'delta' });
}

/** An image that is being folded into has no state, and bears no name that promises one. */
async function* hideFolds(files: ContainerFiles): AsyncGenerator<string> {
  for (const file of files.all()) {
    if (!file.manifest.fold || file.parsed?.role === 'fold') continue;
    yield await files.rename(file, { role: 'fold', name: files.name, number: freshNumber(files.names, files.name) });
  }
}

/** An image that grew for a fold, and whose old slots are seen in the disk since: they go before anybody reads it. */
async function* cleanGrown(files: ContainerFiles): AsyncGenerator<string> {
  for (const file of files.all()) {
    if (file.manifest.kind !== 'image' || file.manifest.fold?.cursor !== 0) continue;
    await using image = await openLayer(file.path, { write: true, noFollow: true });
    if (image.kind === 'image' && (await punchOldSlots(image))) yield `"${file.fileName}" has grown`;
  }
}

/** What was prepared for a fold to keep takes its name once the image has lost its state, and is needless before. */
async function* settleHalfMade(files: ContainerFiles): AsyncGenerator<string> {
  for (const file of files.all()) {
    if (file.parsed?.role !== 'half-made') continue;
    const { state } = file.manifest;
    const to = parseFileName(`${files.name}@${file.parsed.of}.delta`);
    if (files.all().some(({ manifest }) => manifest.fold?.keep === state)) {
      if (to) yield await files.rename(file, to);
      continue;
    }
    const other = files.all().find((one) => one !== file && one.manifest.state === state && one.manifest.kind === 'image');
    if (!other) throw uncertain(files, `only "${file.fileName}" has its state`);
    yield await files.unlink(file, { why: 'provided', by: other });
  }
}

/**
 * An image that is being folded into no more, or not yet: it takes the name of the delta of its state, which is needless. That is the source of
 * a fold that is committed, or what was prepared to be kept of one that was never told of; else it had no name.
 */
async function* showImages(files: ContainerFiles): AsyncGenerator<string> {
  for (const image of files.all()) {
    if (image.manifest.kind !== 'image' || image.manifest.fold) continue;
    const isHidden = image.parsed?.role === 'fold';
    const twins = files.all().filter(({ manifest }) => manifest.kind === 'delta' && manifest.state === image.manifest.state);
    const source = twins.find(({ parsed }) => parsed?.role !== 'fold') ?? twins[0];
    const wanted = source && nameAsImage(files, source);
    // Any other two files of one state are copies that somebody made.
    if (!isHidden && !(wanted && image.fileName === formatFileName(wanted))) continue;
    const isTaken = wanted && image.fileName !== formatFileName(wanted) && files.names.has(formatFileName(wanted));
    const to: FileName =
      wanted && !isTaken ? wanted : { role: 'nameless', name: files.name, number: freshNumber(files.names, files.name), extension: 'img' };
    if (image.fileName !== formatFileName(to)) yield await files.rename(image, to);
    const by = files.get(formatFileName(to)) as IndexedFile;
    for (const twin of source && !isTaken ? [source] : []) yield await files.unlink(twin, { why: 'provided', by });
  }
}

/** What an image of a delta's state is called; a hidden source had no name. */
function nameAsImage({ name }: ContainerFiles, { parsed }: IndexedFile): FileName | undefined {
  if (parsed?.role === 'fold') return { ...parsed, role: 'nameless', extension: 'img' };
  if (parsed?.role === 'half-made') return parseFileName(`${name}@${parsed.of}.img`);
  return parsed && 'extension' in parsed ? { ...parsed, extension: 'img' } : undefined;
}

/** A file that was put aside and is not sealed yet: the commit of the next top came through, its end did not. */
async function* sealKept(files: ContainerFiles, { live }: RecoverOptions): AsyncGenerator<string> {
  const top = files.tops().map((fileName) => files.get(fileName))[0];
  for (const file of files.all()) {
    const { manifest, parsed } = file;
    if (parsed?.role !== 'snapshot' && parsed?.role !== 'nameless') continue;
    // One that has the top's state is a copy that somebody made of it.
    if (manifest.sealed || manifest.fold || manifest.state === top?.manifest.state) continue;
    await using open = await openLayer(file.path, { write: true, noFollow: true });
    // Whoever writes to it holds it exclusively; a running container's server still holds what it wrote to before.
    if (!live && !tryLock(open.fd, 'shared')) continue;
    const { created } = manifest.snapshot ?? { created: new Date().toISOString() };
    const lost = { name: parsed.role === 'snapshot' ? parsed.snapshot : '', created, consistency: 'crash' as const };
    await seal(open, parsed.role === 'snapshot' && !manifest.snapshot ? { snapshot: lost } : {});
    yield `"${file.fileName}" is sealed`;
  }
}

/** A rename of the container whose commit, that of its top, came through: the rest follows. */
async function* finishRename(files: ContainerFiles, { renameRest }: RecoverOptions): AsyncGenerator<string> {
  const top = files.tops().map((fileName) => files.get(fileName))[0];
  const formerly = top?.manifest.formerly;
  if (!top || formerly === undefined) return;
  if (formerly !== files.name) {
    const old = await ContainerFiles.read(files.directory, formerly);
    const isOurs = ({ manifest }: IndexedFile) => manifest.container !== undefined && manifest.container === top.manifest.container;
    const twin = old.tops().map((fileName) => old.get(fileName))[0];
    if (old.tops().length > 0 && (!twin || isOurs(twin)))
      throw uncertain(files, `it was "${formerly}", and "${old.tops()[0]}" is there, too`, 'move one of them away');
    for (const file of old.all().filter(isOurs)) if (file.parsed) yield await old.rename(file, { ...file.parsed, name: files.name });
    await old.sync();
    await renameRest?.(formerly, files.name);
    yield `what else was called "${formerly}" is called "${files.name}"`;
  }
  await using open = await openLayer(top.path, { write: true, noFollow: true });
  const { formerly: _, ...manifest } = open.manifest as Manifest;
  await writeManifest(open, { ...manifest, name: files.name });
  yield `it is no longer called "${formerly}"`;
}

function uncertain({ name }: ContainerFiles, state: string, hint?: string): LoopboxError {
  return new LoopboxError('ERR_LOOPBOX_CORRUPT', `Cannot recover "${name}": ${state}`, { hint });
}
