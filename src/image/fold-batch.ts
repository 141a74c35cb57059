import { CleanupStack } from '../cleanup';
import { LoopboxError } from '../errors';
import { native } from '../native';
import type { DeltaFile } from './delta-file';
import { blockSize } from './delta-geometry';
import { fileStatus } from './file-io';
import { growImage, punchOldSlots, shrinkImage } from './grow-image';
import { hideFile, isOursAlone } from './hide-file';
import { type ImageFile, judgeImage, writeManifest } from './image-file';
import type { FoldRecord, Manifest } from './manifest';
import { slotsLength } from './manifest-slots';
import {
  type BatchOutcome,
  batchBytesOf,
  isNameless,
  Lease,
  LiveLayers,
  type MergeContext,
  openOwn,
  scanAll,
  scanOwn,
} from './merge-context';
import type { RegularFile } from './opened-file';
import { readOwnBlock0 } from './own-block0';
import { recoverSteps } from './recover';
import { evidenceOf, unseal, verifySeal } from './seal';
import type { IndexedFile, StateIndex } from './state-index';
import { withReadOnlyFeature } from './superblock';
import { wholeImage } from './whole-image';

/** The files of a fold that was begun. */
interface RunningFold {
  image: IndexedFile;
  source: IndexedFile;
  keep: IndexedFile | undefined;
  record: FoldRecord;
}

interface OpenFold {
  image: ImageFile;
  source: DeltaFile;
  keep: DeltaFile | undefined;
  live: LiveLayers;
}

/**
 * A batch of a fold that was begun, a step at a time; with the last one the image has the source's state and takes its name. Read the
 * view of any state at any moment: the source counts from the cursor on.
 */
export async function* foldBatch(context: MergeContext, hidden: IndexedFile): AsyncGenerator<string, BatchOutcome> {
  const fold = findFold(context, await scanOwn(context), hidden);
  await using live = await LiveLayers.of(context);
  if (live.isTop(fold.source)) return { waits: `"${context.name}" runs on what is folded` };
  const cursor = yield* moveBatch(fold, live, batchBytesOf(context));
  if (typeof cursor !== 'number') return cursor;
  // The image may have grown and the source been hidden meanwhile; and what the batch had opened is closed.
  const now = findFold(context, await scanOwn(context), hidden);
  if (!isWhole(now)) return { next: cursor };
  await using current = await LiveLayers.of(context);
  return yield* endFold(context, now, current);
}

/** Whether the image has all of the source's blocks. */
function isWhole({ image, record }: RunningFold): boolean {
  return record.cursor * blockSize >= image.manifest.sizeBytes;
}

function findFold(context: MergeContext, own: StateIndex, { path }: IndexedFile): RunningFold {
  const image = own.files.find((file) => file.path === path);
  const record = image?.manifest.fold;
  if (!image || !record) throw new Error(`"${path}" is not being folded into`);
  // A copy of one of them that somebody put back, also beside it, is not the one.
  const files = own.ofContainer(context.name).filter((file) => file.manifest.kind === 'delta' && !own.mergeBeside(file));
  const find = (state: string) => files.find(({ manifest }) => manifest.state === state);
  const source = find(record.to);
  const keep = record.keep === undefined ? undefined : find(record.keep);
  if (source && (keep || record.keep === undefined)) return { image, source, keep, record };
  const other = own.ofContainer(context.name).find((file) => own.mergeBeside(file));
  const why = other ? `"${other.fileName}" is another copy of a file that it is merged with` : 'a file that it is merged with is missing';
  throw new LoopboxError('ERR_LOOPBOX_CORRUPT', `Cannot merge "${image.fileName}": ${why}`, { path });
}

async function openFold({ image, source, keep }: RunningFold, live: LiveLayers, cleanup: CleanupStack): Promise<OpenFold> {
  const files = {
    image: cleanup.use(await live.open(image)),
    source: cleanup.use(await live.open(source)),
    keep: keep && cleanup.use(await openOwn(keep)),
  };
  await verifySeal(files.source);
  if (files.keep) await verifySeal(files.keep);
  if (files.image.kind !== 'image' || files.source.kind !== 'delta' || files.keep?.kind === 'image')
    throw new LoopboxError('ERR_LOOPBOX_CORRUPT', `Cannot merge "${image.fileName}": it names files of another kind`, { path: image.path });
  return { ...(files as Omit<OpenFold, 'live'>), live };
}

/** Returns the new cursor. */
async function* moveBatch(fold: RunningFold, live: LiveLayers, maxBytes: number): AsyncGenerator<string, number | { waits: string }> {
  await using cleanup = new CleanupStack();
  const open = await openFold(fold, live, cleanup);
  const { source, keep } = open;
  // A fold that was cut may have left a reader behind, who must not see the image change.
  using lease = await Lease.take(open.image.fd);
  if (!lease || !(await isOursAlone(open.image.fd, lease)))
    return { waits: `"${fold.image.fileName}" is open elsewhere, or has another name` };
  const image = yield* withRoom(open);
  const { cursor } = fold.record;
  const block0 = cursor === 0 ? await closedBlock0(source) : undefined;
  const batch = await native().stackFoldBatch({ image, source, keep, block0, fromBlock: cursor, maxBytes });
  yield 'a batch is folded';
  const next = batch.nextBlock ?? image.sizeBytes / blockSize;
  await live.moved(fold.source, fold.image, next);
  await writeManifest(image, { ...(image.manifest as Manifest), fold: { ...fold.record, cursor: next } });
  yield 'the cursor has moved';
  if (next > cursor) yield* punchSource(fold.source, source, cursor, next);
  return next;
}

/** The source's own block 0 with ext4's `read-only` feature: the image keeps that, or a stock mount of it would write to what others read. */
async function closedBlock0(source: DeltaFile): Promise<Buffer | undefined> {
  const block0 = await readOwnBlock0(source);
  return block0 && withReadOnlyFeature(block0, true);
}

/** The image, as large as the source at least. */
async function* withRoom({ image, source }: OpenFold): AsyncGenerator<string, ImageFile> {
  // What a grow that was cut has left; later the file system's size says nothing any more of what the image's was.
  if (image.manifest?.fold?.cursor === 0) await punchOldSlots(image);
  if (source.sizeBytes <= image.sizeBytes) return image;
  await growImage(image, source.sizeBytes);
  yield 'the image has grown';
  return await judgeImage({ ...regularFile(image), fileSizeBytes: (await fileStatus(image.fd)).size });
}

function regularFile({ fd, path, label, device, inode, links, fileSizeBytes }: ImageFile): RegularFile {
  return { fd, path, label, device, inode, links, fileSizeBytes };
}

/** Gives back what the image has by now, if nobody can see it. */
async function* punchSource(place: IndexedFile, source: DeltaFile, from: number, next: number): AsyncGenerator<string> {
  // The image may be the larger one.
  const end = Math.min(next, source.sizeBytes / blockSize);
  if (!isNameless(place) || end <= from) return;
  using lease = await Lease.take(source.fd, 0);
  if (!lease || (await hideFile(place, source.fd, lease)) === undefined) return;
  await native().punchHole(source.fd, source.dataOffset + from * blockSize, (end - from) * blockSize);
  yield 'the source gives space back';
}

/** The image has all of the source: it ends where that ends, says so, and bears its name. */
async function* endFold(context: MergeContext, fold: RunningFold, live: LiveLayers): AsyncGenerator<string, BatchOutcome> {
  const { sizeBytes } = fold.source.manifest;
  const isShorter = sizeBytes < fold.image.manifest.sizeBytes;
  // Its server would go on reading what is cut off.
  if (isShorter && live.find(fold.image)) return { waits: `"${context.name}" runs` };
  await using _lock = await context.takeStructureLock();
  const state = fold.record.to;
  const isStoodOn = fold.keep !== undefined || (await scanAll(context)).children(state).length > 0;
  await using cleanup = new CleanupStack();
  const { image, source, keep } = await openFold(fold, live, cleanup);
  // What others stand on is frozen, the present included: its next start makes a new top.
  const isSealed = isStoodOn || fold.source.parsed?.role !== 'top';
  if (keep) {
    const sealed = keep.manifest.sealed && (await evidenceOf(keep));
    await writeManifest(keep, {
      ...keep.manifest,
      parent: { state, hint: fold.source.fileName.replace(/\.\w+$/, '.img') },
      ...(sealed && { sealed }),
    });
    yield 'what is kept stands on it';
  }
  const { snapshot } = source.manifest;
  const whole: Manifest = {
    ...wholeImage(source.manifest),
    ...(snapshot && { snapshot }),
    ...(isSealed && { sealed: { ...(await evidenceOf(image)), lengthBytes: sizeBytes + slotsLength } }),
  };
  if (isShorter) yield* shrinkImage(image, whole);
  else await writeManifest(image, whole);
  yield 'the image has the state';
  if (!isSealed) {
    await unseal(image);
    yield 'its file system may be written to';
  }
  const layer = live.find(fold.source);
  if (layer) await live.server?.drop(layer.slot);
  await cleanup[Symbol.asyncDispose]();
  for await (const step of recoverSteps(context.containersDirectory, context.name, { live: live.top })) yield step;
  return 'done';
}
