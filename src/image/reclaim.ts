import { isSystemError, LoopboxError } from '../errors';
import { tryLock } from '../flock';
import { absorbBatch } from './absorb';
import { blockSize } from './delta-geometry';
import { beginFold } from './fold';
import { foldBatch } from './fold-batch';
import { type BatchOutcome, isNameless, isOwn, type MergeContext, openOwn, scanAll } from './merge-context';
import { syncDirectory } from './new-file';
import { type IndexedFile, isSameFile, type StateIndex } from './state-index';
import { unlinkNeedless } from './unlink-file';

/** A file without a name that is still there, and what it waits for. */
export interface PendingFile {
  fileName: string;
  reason: string;
  /** Whether it waits for space on the host. */
  isFull: boolean;
}

/** What is to be done next with the files without a name, as the tree has it. */
type Work =
  | { kind: 'unlink'; file: IndexedFile }
  | { kind: 'absorb'; file: IndexedFile; child: IndexedFile }
  | { kind: 'begin'; file: IndexedFile; child: IndexedFile }
  | { kind: 'fold'; file: IndexedFile };

/**
 * Gives back what the files without a name hold, as far as nobody needs it: one that none stands on goes, one that a single file of
 * the container stands on is merged with it. In batches, with a pause after each; resumed from the files alone. For the holder of the
 * container's verb lock, after `recover`. Returns what waits, and for what; a file that several stand on is no such.
 */
export async function reclaim(context: MergeContext): Promise<PendingFile[]> {
  const pending = new Map<string, PendingFile>();
  for await (const _ of reclaimSteps(context, pending));
  return [...pending.values()];
}

/** `reclaim`, a step at a time; what waits is added to `pending`, by inode. */
export async function* reclaimSteps(context: MergeContext, pending: Map<string, PendingFile>): AsyncGenerator<string> {
  const positions = new Map<string, number>();
  for (;;) {
    context.signal?.throwIfAborted();
    const work = nextWork(context, await scanAll(context), (file) => !pending.has(keyOf(file)));
    if (!work) return;
    const key = keyOf(work.file);
    const outcome = yield* attempt(perform(context, work, positions.get(key) ?? 0));
    if (outcome === 'done') continue;
    if ('waits' in outcome) {
      pending.set(key, { fileName: work.file.fileName, reason: outcome.waits, isFull: outcome.isFull ?? false });
      continue;
    }
    if (work.kind === 'absorb') positions.set(key, outcome.next);
    context.onProgress?.({
      action: work.kind === 'absorb' ? 'absorbing' : 'folding',
      doneBytes: outcome.next * blockSize,
      totalBytes: work.file.manifest.sizeBytes,
    });
    await context.pause();
  }
}

export function keyOf({ device, inode }: IndexedFile): string {
  return `${device}:${inode}`;
}

/** A step that finds no space, or another command at work, is not done now: what was there is there. */
export async function* attempt(steps: AsyncGenerator<string, BatchOutcome>): AsyncGenerator<string, BatchOutcome> {
  try {
    return yield* steps;
  } catch (error) {
    if (isSystemError(error, 'ENOSPC', 'EDQUOT')) return { waits: 'no space is left on the host', isFull: true };
    if (error instanceof LoopboxError && ['ERR_LOOPBOX_LOCKED', 'ERR_LOOPBOX_IN_USE', 'ERR_LOOPBOX_NO_SPACE'].includes(error.code))
      return { waits: error.message, isFull: error.code === 'ERR_LOOPBOX_NO_SPACE' };
    throw error;
  }
}

function perform(context: MergeContext, work: Work, position: number): AsyncGenerator<string, BatchOutcome> {
  if (work.kind === 'fold') return foldBatch(context, work.file);
  if (work.kind === 'begin') return beginFold(context, { image: work.file, source: work.child });
  if (work.kind === 'absorb') return absorbBatch(context, { parent: work.file, child: work.child }, position);
  return unlinkUnneeded(context, work.file);
}

/** What was begun goes first; then what overwrites in place, which a full host has room for. */
function nextWork(context: MergeContext, all: StateIndex, isOpen: (file: IndexedFile) => boolean): Work | undefined {
  const own = all.ofContainer(context.name).filter((file) => isOpen(file) && isNameless(file));
  const works = own.map((file) => workOf(context, all, file)).filter((work) => work !== undefined);
  const order: Work['kind'][] = ['fold', 'unlink', 'begin', 'absorb'];
  const begun = works.find(({ file }) => file.manifest.fold);
  return begun ?? works.sort((a, b) => order.indexOf(a.kind) - order.indexOf(b.kind))[0];
}

function workOf(context: MergeContext, all: StateIndex, file: IndexedFile): Work | undefined {
  const { kind, state, fold } = file.manifest;
  if (fold) {
    if (kind === 'image') return { kind: 'fold', file };
    const child = all.ofContainer(context.name).find((other) => other.manifest.state === fold.to);
    return child && { kind: 'absorb', file, child };
  }
  if (isMerging(context, all, state)) return undefined;
  const [child, ...others] = all.children(state).filter((other) => !isSameFile(other, file));
  if (!child) return { kind: 'unlink', file };
  if (others.length > 0 || !isOwn(context, child) || isMerging(context, all, child.manifest.state)) return undefined;
  // Another file of the same state may be the one that the child stands on.
  const below = all.below(child);
  if (!below || !isSameFile(below, file)) return undefined;
  return { kind: kind === 'delta' ? 'absorb' : 'begin', file, child };
}

/** Whether a file of this state takes part in a merge. */
function isMerging({ name }: MergeContext, all: StateIndex, state: string): boolean {
  return all.ofContainer(name).some(({ manifest: { fold } }) => fold && (fold.to === state || fold.keep === state));
}

async function* unlinkUnneeded(context: MergeContext, { device, inode, fileName }: IndexedFile): AsyncGenerator<string, BatchOutcome> {
  await using _lock = await context.takeStructureLock();
  const index = await scanAll(context);
  const file = index.files.find((other) => isSameFile(other, { device, inode }));
  if (!file || !isNameless(file)) return 'done';
  await using opened = await openOwn(file);
  if (!tryLock(opened.fd, 'exclusive')) return { waits: `"${fileName}" is in use` };
  await syncDirectory(context.containersDirectory);
  await unlinkNeedless(file, { why: 'childless', index });
  yield `"${fileName}" is gone`;
  await syncDirectory(context.containersDirectory);
  yield 'durably';
  return 'done';
}
