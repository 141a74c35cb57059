import { join } from 'node:path';
import { tryLock } from '../flock';
import { native } from '../native';
import { newUuid } from '../uuid';
import { formatFileName, parseFileName } from './file-names';
import { hideFile, showFile } from './hide-file';
import { writeManifest } from './image-file';
import type { LayerFile } from './layer-file';
import { type Manifest, noState } from './manifest';
import { forgetEvidence } from './mark';
import { type BatchOutcome, isOwn, Lease, LiveLayers, type MergeContext, openOwn, scanAll } from './merge-context';
import { syncDirectory } from './new-file';
import { seal, verifySeal } from './seal';
import { type IndexedFile, isSameFile, type StateIndex } from './state-index';

/** A delta that is merged into the image that it stands on. */
export interface Fold {
  image: IndexedFile;
  source: IndexedFile;
  /** The delta that goes on with the image's state, or stands on it: it gets the blocks that the image loses. */
  keep?: IndexedFile | undefined;
}

/**
 * Begins a fold, a step at a time: makes sure that no other file needs the image's state, takes its name away, looks whether anybody else has
 * it open or by another name, and only then says durably what is to be done: who linked or opened it in between has what it was. Where something
 * is in the way all is as before; a cut before the last step leaves that to `recover`.
 */
export async function* beginFold(context: MergeContext, fold: Fold): AsyncGenerator<string, BatchOutcome> {
  await using _lock = await context.takeStructureLock();
  const inTheWay = whoNeeds(context, await scanAll(context), fold);
  if (inTheWay) return { waits: inTheWay };
  await using live = await LiveLayers.of(context);
  if (live.isTop(fold.source)) return { waits: `"${context.name}" runs` };
  await using image = await live.open(fold.image);
  await using source = await openOwn(fold.source);
  await using keep = fold.keep && (await live.open(fold.keep));
  for (const file of [image, source, ...(keep ? [keep] : [])]) await verifySeal(file);
  if (!image.manifest) return { waits: `"${fold.image.fileName}" has no manifest` };
  const to = yield* sealSource(source);
  if (to === undefined) return { waits: `"${fold.source.fileName}" is in use` };

  using lease = await Lease.take(image.fd);
  if (!lease) return { waits: `"${fold.image.fileName}" is open elsewhere` };
  const hidden = await hideFile(fold.image, image.fd, lease);
  if (hidden === undefined) return { waits: `"${fold.image.fileName}" is open elsewhere, or has another name` };
  yield 'the image is hidden';
  yield* nameKeep(context, fold);
  if (keep && !(await forgetEvidence(keep))) {
    await showFile(hidden, fold.image.path);
    return { waits: `"${keep.label}" is open elsewhere` };
  }
  yield 'what is kept may be written to';
  await writeManifest(image, recordOf(image.manifest, to, keep));
  yield 'it is told what is to be done';
  return { next: 0 };
}

/** In words, who else stands on the state that the image would lose. */
function whoNeeds(context: MergeContext, all: StateIndex, { image, source, keep }: Fold): string | undefined {
  const others = all.children(image.manifest.state).filter((other) => !isSameFile(other, source) && !(keep && isSameFile(other, keep)));
  const outside = others.find((other) => !isOwn(context, other));
  // What is kept provides the state for those that are left, if it has it.
  const needs = outside ?? (keep?.manifest.state === image.manifest.state ? undefined : others[0]);
  return needs && `"${needs.fileName}" stands on "${image.fileName}"`;
}

/**
 * Nothing may be written to the source from here on. One that was a top gets a new state: a copy of it from before must not be taken for it.
 * Returns its state; undefined where somebody uses it.
 */
async function* sealSource(source: LayerFile): AsyncGenerator<string, string | undefined> {
  const { manifest } = source;
  if (!manifest) throw new Error(`"${source.label}" has no manifest`);
  if (manifest.sealed) return manifest.state;
  if (!tryLock(source.fd, 'exclusive')) return undefined;
  await seal(source, { state: newUuid() });
  yield 'the source is sealed';
  return source.manifest?.state;
}

function recordOf({ sealed: _, ...manifest }: Manifest, to: string, keep: LayerFile | undefined): Manifest {
  return {
    ...manifest,
    state: noState,
    fold: { to, was: manifest.state, cursor: 0, ...(keep?.manifest && { keep: keep.manifest.state }) },
  };
}

/** What was prepared to be kept takes its name, which the image has given up. */
async function* nameKeep({ containersDirectory }: MergeContext, { keep }: Fold): AsyncGenerator<string> {
  if (keep?.parsed?.role !== 'half-made') return;
  const name = formatFileName({ role: 'half-made', name: keep.parsed.name, of: keep.parsed.of }).replace(/\.next$/, '.delta');
  if (!parseFileName(name)) throw new Error(`"${keep.fileName}" can't be given a name`);
  await native().renameNoReplace(keep.path, join(containersDirectory, name));
  await syncDirectory(containersDirectory);
  yield 'what is kept has its name';
}
