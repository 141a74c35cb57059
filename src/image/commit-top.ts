import { rm, statfs } from 'node:fs/promises';
import { join } from 'node:path';
import { native } from '../native';
import { newUuid } from '../uuid';
import { createDelta } from './delta-file';
import type { Geometry } from './delta-geometry';
import { formatFileName, type LayerExtension } from './file-names';
import type { HeldFiles } from './held-files';
import { openLayer } from './layer-file';
import type { DeltaManifest, Manifest, SnapshotRecord } from './manifest';
import { syncDirectory } from './new-file';
import { seal } from './seal';
import { withReadOnlyFeature } from './superblock';

export interface NewTop {
  /** The directory of the container's files. */
  directory: string;
  name: string;
  /** V. */
  sizeBytes: number;
  /** What it stands on; the hint is a file's name. */
  parent: { state: string; hint: string };
  /** The first 4096 bytes of the parent's view. Of a running container's they go on changing: its server copies them once more at the switch. */
  block0: Buffer;
  /** Config, ids, and what else the container's manifest goes on with; the state is drawn anew. */
  manifest: Omit<Manifest, 'kind' | 'sizeBytes' | 'state' | 'parent' | 'sealed' | 'snapshot' | 'fold' | 'formerly' | keyof Geometry>;
}

/** A top that is prepared, durably, as `NAME.next`; not yet part of anything. */
export interface PreparedTop {
  path: string;
  manifest: DeltaManifest;
}

/**
 * Prepares the next top of a container: a delta that owns nothing but block 0, without ext4's `read-only` feature, whatever it stands on.
 * EEXIST where there is a `NAME.next`: recover first.
 */
export async function prepareTop(next: NewTop): Promise<PreparedTop> {
  const path = join(next.directory, formatFileName({ role: 'next', name: next.name }));
  const block0 = withReadOnlyFeature(next.block0, false);
  const manifest = { ...next.manifest, state: newUuid(), parent: next.parent };
  await using delta = await createDelta(next.directory, { sizeBytes: next.sizeBytes, manifest, block0 });
  await delta.file.publish(path);
  return { path, manifest: delta.manifest };
}

export interface TopCommit {
  directory: string;
  name: string;
  /** The ending of the file that is the top now. */
  extension: LayerExtension;
  /** What it is called from then on, behind the `@`: a snapshot's name, or `~n`. */
  kept: string;
}

/** The names that take part in a commit, as a running server is told them, too. */
export function namesOfCommit({ name, extension, kept }: TopCommit, next: 'image' | 'delta' = 'delta') {
  return {
    old: formatFileName({ role: 'top', name, extension }),
    kept: `${name}@${kept}.${extension}`,
    next: formatFileName({ role: 'next', name }),
    top: formatFileName({ role: 'top', name, extension: next === 'image' ? 'img' : 'delta' }),
  };
}

/**
 * Makes the prepared file the top, durably, by two renames, and seals what was the top, with what is to be told of it. After a kill in between
 * there is no way back, only on, by `recover`. Where a step fails, the top is what it was, and nothing is prepared any more.
 */
export async function commitTop(commit: TopCommit, next: 'image' | 'delta', snapshot?: SnapshotRecord, held?: HeldFiles): Promise<void> {
  for await (const _ of commitSteps(commit, next, snapshot, held));
}

async function* commitSteps(
  commit: TopCommit,
  next: 'image' | 'delta',
  snapshot?: SnapshotRecord,
  held?: HeldFiles,
): AsyncGenerator<string> {
  const { directory } = commit;
  const names = namesOfCommit(commit, next);
  const renamed: [from: string, to: string][] = [];
  const rename = async (from: string, to: string) => {
    await native().renameNoReplace(join(directory, from), join(directory, to));
    renamed.push([from, to]);
  };
  try {
    await rename(names.old, names.kept);
    yield `${names.old} is ${names.kept}`;
    if (!(await keepsRenamesInOrder(directory))) await syncDirectory(directory);
    await rename(names.next, names.top);
    yield `${names.next} is ${names.top}`;
    await syncDirectory(directory);
    yield 'the names are durable';
    await sealKept(commit, snapshot, held);
    yield 'what was the top is sealed';
  } catch (error) {
    await takeBack(directory, renamed, names.next).catch(() => {
      // What can't be taken back now, `recover` goes on with.
    });
    throw error;
  }
}

async function takeBack(directory: string, renamed: [from: string, to: string][], next: string): Promise<void> {
  for (const [from, to] of renamed.reverse()) await native().renameNoReplace(join(directory, to), join(directory, from));
  await rm(join(directory, next), { force: true });
  await syncDirectory(directory);
}

/** Whether renames in one directory survive a power cut in their order: as far as is known of ext4, XFS and btrfs. */
async function keepsRenamesInOrder(directory: string): Promise<boolean> {
  return [0xef53, 0x58465342, 0x9123683e].includes((await statfs(directory)).type);
}

/** Seals the file that was the top until a commit, with what is to be told of it. Idempotent. */
export async function sealKept(commit: TopCommit, snapshot?: SnapshotRecord, held?: HeldFiles): Promise<void> {
  await using file = await openLayer(join(commit.directory, namesOfCommit(commit).kept), { write: true, noFollow: true });
  await seal(file, snapshot && { snapshot }, held);
}

/**
 * Gives a container that nobody runs a new top: prepare, commit, seal what was the top. A cut leaves the old top or the new one, as
 * `recover` has it.
 */
export async function replaceTop(next: NewTop, commit: TopCommit, snapshot?: SnapshotRecord, held?: HeldFiles): Promise<void> {
  for await (const _ of replaceSteps(next, commit, snapshot, held));
}

/** `replaceTop`, a step at a time. */
export async function* replaceSteps(next: NewTop, commit: TopCommit, snapshot?: SnapshotRecord, held?: HeldFiles): AsyncGenerator<string> {
  await prepareTop(next);
  yield 'it is prepared';
  yield* commitSteps(commit, 'delta', snapshot, held);
}
