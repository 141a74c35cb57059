import { CleanupStack } from '../cleanup';
import { LoopboxError } from '../errors';
import { tryLock } from '../flock';
import { native } from '../native';
import { newUuid } from '../uuid';
import type { DeltaFile } from './delta-file';
import { blockSize } from './delta-geometry';
import { hideFile, isOursAlone } from './hide-file';
import { writeManifest } from './image-file';
import type { LayerFile } from './layer-file';
import { noState } from './manifest';
import { forgetEvidence } from './mark';
import { type BatchOutcome, batchBytesOf, isNameless, Lease, LiveLayers, type MergeContext, openOwn, scanAll } from './merge-context';
import { syncDirectory } from './new-file';
import { evidenceOf, verifySeal } from './seal';
import { hasEvidence, type IndexedFile, isSameFile } from './state-index';
import { unlinkNeedless } from './unlink-file';

/** A delta that is merged into its only child. */
export interface Absorb {
  parent: IndexedFile;
  child: IndexedFile;
}

/**
 * A batch of an absorb, a step at a time: what the child lacks of the parent's blocks is copied to it; with the last one the child stands
 * on what the parent stood on, and the parent goes. Every other file keeps its content at every moment. A parent without a name that nobody
 * else has open gives its space back on the way: it holds no state from then on, and says who its child is.
 */
export async function* absorbBatch(context: MergeContext, absorb: Absorb, fromBlock: number): AsyncGenerator<string, BatchOutcome> {
  const { parent, child } = absorb;
  await using live = await LiveLayers.of(context);
  await using p = await deltaOf(await live.open(parent));
  await using c = await deltaOf(await (live.isTop(child) ? openOwn(child) : live.open(child)));
  if (!c.manifest.sealed && !live.isTop(child) && !tryLock(c.fd, 'exclusive')) return { waits: `"${child.fileName}" is in use` };
  const open = { p, c, live };
  if (standsBelow(absorb, open)) return yield* endAbsorb(context, absorb, open);
  if (fromBlock === 0) {
    await verifySeal(p);
    await verifySeal(c);
  }
  if (!(yield* mark(open, fromBlock))) return { waits: `"${child.fileName}" is open elsewhere` };
  const next = yield* moveBatch(context, absorb, open, fromBlock);
  return next === undefined ? yield* endAbsorb(context, absorb, open) : { next };
}

interface OpenAbsorb {
  p: DeltaFile;
  c: DeltaFile;
  live: LiveLayers;
}

/**
 * Whether the child stands on what the parent stands on already: it has all, and a cut came before the end. CORRUPT where it is not the file
 * that the parent stood below, but another copy of it, from before, that somebody put back.
 */
function standsBelow({ parent, child }: Absorb, { p, c }: OpenAbsorb): boolean {
  const { fold, state } = p.manifest;
  const stoodOn = c.manifest.parent?.state;
  const isOther = fold && stoodOn === fold.was && c.manifest.sealed && hasEvidence(c.manifest.sealed);
  if (!isOther && stoodOn === (fold?.was ?? state)) return false;
  if (!isOther && stoodOn !== undefined && stoodOn === p.manifest.parent?.state) return true;
  const why = `"${child.fileName}" is another copy of the file that it is merged with`;
  throw new LoopboxError('ERR_LOOPBOX_CORRUPT', `Cannot merge "${parent.fileName}": ${why}`, { path: child.path });
}

/** No copy of the child that was made before can pass for it from here on. False where somebody else has it open. */
async function* mark({ p, c }: OpenAbsorb, fromBlock: number): AsyncGenerator<string, boolean> {
  if (c.manifest.sealed) {
    if (!(await forgetEvidence(c))) return false;
    yield 'what the child looked like is forgotten';
  } else if (!p.manifest.fold && fromBlock === 0) {
    await writeManifest(c, { ...c.manifest, state: newUuid() });
    yield 'the child has a new state';
  }
  return true;
}

async function* moveBatch(
  context: MergeContext,
  absorb: Absorb,
  open: OpenAbsorb,
  fromBlock: number,
): AsyncGenerator<string, number | undefined> {
  const { p, c, live } = open;
  using lease = yield* leaseParent(context, absorb, open, fromBlock);
  const next = live.isTop(absorb.child)
    ? await absorbLive(live, absorb.parent, fromBlock)
    : await copyBatch(p, c, fromBlock, batchBytesOf(context));
  yield 'a batch is copied';
  const end = next ?? p.sizeBytes / blockSize;
  if (lease && end > fromBlock && (await isOursAlone(p.fd, lease))) {
    await live.moved(absorb.parent, absorb.child, end);
    await native().punchHole(p.fd, p.dataOffset + fromBlock * blockSize, (end - fromBlock) * blockSize);
    yield 'the parent gives space back';
  }
  return next;
}

async function copyBatch(p: DeltaFile, c: DeltaFile, fromBlock: number, maxBytes: number): Promise<number | undefined> {
  const { nextBlock } = await native().stackCopyMissing({ source: p, destination: c, fromBlock, maxBytes });
  return nextBlock ?? undefined;
}

async function absorbLive(live: LiveLayers, parent: IndexedFile, fromBlock: number): Promise<number | undefined> {
  const layer = live.find(parent);
  if (!live.server || !layer) throw new Error(`"${parent.fileName}" is no layer of the server that serves its child`);
  return live.server.absorbIntoTop(layer.slot, fromBlock);
}

/**
 * Gets hold of a parent without a name, to punch it: its state is taken away first, so that a copy of the child from before, in another
 * place, finds its parent missing and not wrong. Undefined where somebody else might need the parent or has it open.
 */
async function* leaseParent(
  context: MergeContext,
  { parent, child }: Absorb,
  { p, c }: OpenAbsorb,
  fromBlock: number,
): AsyncGenerator<string, Lease | undefined> {
  if (!isNameless(parent)) return undefined;
  if (p.manifest.fold) return Lease.take(p.fd);
  await using _lock = await context.takeStructureLock();
  const all = await scanAll(context);
  if (all.children(p.manifest.state).some((other) => !isSameFile(other, child))) return undefined;
  // No file is looked at from here on: that would break the lease.
  await using cleanup = new CleanupStack();
  const lease = await Lease.take(p.fd);
  if (!lease) return undefined;
  cleanup.add(() => lease[Symbol.dispose]());
  if ((await hideFile(parent, p.fd, lease)) === undefined) return undefined;
  yield 'the parent is hidden';
  // Of the batches before, in which nothing was taken from the parent, the child may have copies that lack the next ones.
  if (!c.manifest.sealed && fromBlock > 0) await writeManifest(c, { ...c.manifest, state: newUuid() });
  await writeManifest(p, { ...p.manifest, state: noState, fold: { to: c.manifest.state, was: p.manifest.state, cursor: 0 } });
  yield 'the parent holds no state';
  cleanup.disarm();
  return lease;
}

async function* endAbsorb(context: MergeContext, { parent, child }: Absorb, open: OpenAbsorb): AsyncGenerator<string, BatchOutcome> {
  const { p, c, live } = open;
  await using _lock = await context.takeStructureLock();
  const others = p.manifest.fold ? [] : (await scanAll(context)).children(p.manifest.state).filter((other) => !isSameFile(other, child));
  if (others[0]) return { waits: `"${others[0].fileName}" stands on "${parent.fileName}"` };
  if (!p.manifest.parent) return { waits: `"${parent.fileName}" does not say what it stands on` };
  const sealed = c.manifest.sealed && (await evidenceOf(c));
  await writeManifest(c, { ...c.manifest, parent: p.manifest.parent, ...(sealed && { sealed }) });
  yield 'the child stands on what the parent stood on';
  const layer = live.find(parent);
  if (layer) await live.server?.drop(layer.slot);
  const index = await scanAll(context);
  // It may have been hidden since it was found.
  const gone = index.files.find((file) => isSameFile(file, parent));
  if (gone) await unlinkNeedless(gone, { why: 'absorbed', by: child, index });
  yield 'the parent is gone';
  await syncDirectory(context.containersDirectory);
  yield 'durably';
  return 'done';
}

async function deltaOf(opened: LayerFile): Promise<DeltaFile> {
  if (opened.kind === 'delta') return opened;
  await opened.close();
  throw new LoopboxError('ERR_LOOPBOX_CORRUPT', `Cannot merge "${opened.label}": it is no delta`, { path: opened.path });
}
