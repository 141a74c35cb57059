import { join } from 'node:path';
import { createDelta } from './delta-file';
import { newGeometry } from './delta-geometry';
import { formatFileName } from './file-names';
import { beginFold } from './fold';
import { type BatchOutcome, isNameless, isOwn, type MergeContext, scanAll } from './merge-context';
import { attempt, keyOf, type PendingFile, reclaimSteps } from './reclaim';
import { type IndexedFile, isSameFile, type StateIndex } from './state-index';
import { unlinkNeedless } from './unlink-file';

/**
 * Brings a stopped container to its plainest form: its present in one image, each snapshot a delta that stands on a newer state; a container
 * that stands on another's file in one delta. Merges edge by edge, in batches as `reclaim`, and may be stopped anywhere. For the
 * holder of its verb lock, after `recover`. Returns what waits, and for what.
 */
export async function settle(context: MergeContext): Promise<PendingFile[]> {
  const pending = new Map<string, PendingFile>();
  for await (const _ of settleSteps(context, pending));
  return [...pending.values()];
}

/** `settle`, a step at a time. */
export async function* settleSteps(context: MergeContext, pending: Map<string, PendingFile>): AsyncGenerator<string> {
  for (;;) {
    yield* reclaimSteps(context, pending);
    const all = await scanAll(context);
    const edge = nextEdge(context, all);
    if (!edge || pending.has(keyOf(edge.image))) return;
    const outcome = yield* attempt(foldEdge(context, all, edge));
    if (outcome === 'done' || 'next' in outcome) continue;
    pending.set(keyOf(edge.image), { fileName: edge.image.fileName, reason: outcome.waits, isFull: outcome.isFull ?? false });
    return;
  }
}

async function* foldEdge(context: MergeContext, all: StateIndex, edge: Edge): AsyncGenerator<string, BatchOutcome> {
  const keep = yield* keepOf(context, all, edge);
  const outcome = yield* beginFold(context, { ...edge, keep });
  if (outcome !== 'done' && 'waits' in outcome && keep?.parsed?.role === 'half-made')
    await unlinkNeedless(keep, { why: 'provided', by: edge.image });
  return outcome;
}

interface Edge {
  image: IndexedFile;
  source: IndexedFile;
}

/** The container's own root image and the delta on it on the way to the present; undefined where there is none, or nothing to be done. */
function nextEdge(context: MergeContext, all: StateIndex): Edge | undefined {
  const top = all.ofContainer(context.name).find(({ parsed }) => parsed?.role === 'top');
  const seen: IndexedFile[] = [];
  for (let source = top; source?.manifest.kind === 'delta' && !seen.includes(source); seen.push(source), source = all.below(source)) {
    const image = all.below(source);
    if (image?.manifest.kind === 'image')
      return isOwn(context, image) && !image.manifest.fold && !source.manifest.fold ? { image, source } : undefined;
  }
  return undefined;
}

/** What goes on with the image's state: nobody where no one needs it, the only delta that does, or a new one in the image's place. */
async function* keepOf(context: MergeContext, all: StateIndex, { image, source }: Edge): AsyncGenerator<string, IndexedFile | undefined> {
  const others = all.children(image.manifest.state).filter((other) => !isSameFile(other, source));
  const [only] = others;
  if (isNameless(image) && others.length < 2) return only && isOwn(context, only) ? only : undefined;
  const { manifest, parsed } = image;
  if (parsed?.role !== 'snapshot' && parsed?.role !== 'nameless') throw new Error(`"${image.fileName}" can't be merged into`);
  const of = parsed.role === 'snapshot' ? parsed.snapshot : `~${parsed.number}`;
  const path = join(context.containersDirectory, formatFileName({ role: 'half-made', name: context.name, of }));
  const { kind: _, sizeBytes, fold: __, ...kept } = manifest;
  // Frozen as what it stands for, and not to be checked before it is whole.
  const sealed = { lengthBytes: newGeometry(sizeBytes).dataOffset + sizeBytes };
  await using delta = await createDelta(context.containersDirectory, { sizeBytes, manifest: { ...kept, sealed } });
  await delta.file.publish(path);
  yield 'what is kept is prepared';
  return (await scanAll(context)).files.find((file) => file.path === path);
}
