import { basename } from 'node:path';
import { type Chain, readBlocks } from '../image/chain';
import { replayJournal } from '../image/check-filesystem';
import { type NewTop, replaceTop } from '../image/commit-top';
import { blockSize } from '../image/delta-geometry';
import { syncFile } from '../image/file-io';
import type { LayerExtension } from '../image/file-names';
import { writeManifest } from '../image/image-file';
import type { HeldFiles } from '../image/held-files';
import type { LayerFile } from '../image/layer-file';
import type { Config, Manifest, SnapshotRecord } from '../image/manifest';
import { isInMerge } from '../image/state-index';
import { newUuid } from '../uuid';
import { structureWaitMs, takeStructureLock } from './locks';
import { ensureReserve } from './reserve';
import type { Store } from './store';

/** A commit of a stopped container's top, whose chain the caller has claimed. */
export interface Replacement {
  name: string;
  /** The present: its top gets the name `NAME@KEPT` and is sealed. */
  present: Chain;
  kept: string;
  record?: SnapshotRecord | undefined;
  /** What was read of the container's files since its verb lock is held. */
  held?: HeldFiles | undefined;
  /** The state that the new top stands on, with its name from then on; the present itself unless told. */
  on?: { chain: Chain; config: Config } | undefined;
}

/** Gives a stopped container an empty top: on its present, which becomes a snapshot or a nameless file, or on another state of its past. */
export async function replaceStoppedTop(store: Store, { name, present, kept, record, held, on }: Replacement): Promise<void> {
  const { top } = present;
  const parent = on?.chain ?? present;
  await freezeTop(top, held);
  const manifest = manifestOf(top);
  const extension: LayerExtension = top.kind === 'image' ? 'img' : 'delta';
  const next: NewTop = {
    directory: store.containersDirectory,
    name,
    sizeBytes: parent.sizeBytes,
    parent: { state: manifestOf(parent.top).state, hint: on ? basename(on.chain.top.path) : `${name}@${kept}.${extension}` },
    block0: await readBlocks(parent, 0, blockSize),
    manifest: topManifest(manifest, on?.config),
  };
  await using _lock = await takeStructureLock(store, 'shared', structureWaitMs);
  await replaceTop(next, { directory: store.containersDirectory, name, extension, kept }, record, held);
  await ensureReserve(store);
}

/**
 * Before a stopped container's present, which the caller has claimed, is sealed: its journal is replayed, because a sealed file system is never
 * mounted writable, and it draws its state.
 */
export async function freezeTop(top: LayerFile, held?: HeldFiles): Promise<void> {
  if (top.manifest?.sealed) return;
  if (top.kind === 'image' && top.superblock.needsRecovery) {
    await replayJournal(top.fd, top.label);
    await syncFile(top.fd);
  }
  await drawState(top, held);
}

/**
 * Before a present that is not sealed becomes what others stand on: copies may have been made of it, so what it holds in the end is a state that
 * nobody knows yet. One that a merge names has drawn it already. Returns the state.
 */
export async function drawState(top: LayerFile, held?: HeldFiles): Promise<string> {
  const manifest = manifestOf(top);
  if (manifest.sealed || (await isInMerge(top, held))) return manifest.state;
  const state = newUuid();
  await writeManifest(top, { ...manifest, state });
  return state;
}

/** What goes on from one top to the next: who the container is, and its config. */
export function topManifest(manifest: Manifest, config = manifest.config): NewTop['manifest'] {
  const { container, name, created, started, template, identity } = manifest;
  return {
    ...(container !== undefined && { container }),
    ...(name !== undefined && { name }),
    created,
    ...(started !== undefined && { started }),
    ...(template && { template }),
    ...(identity && { identity }),
    config,
  };
}

function manifestOf({ manifest, label }: Chain['top']): Manifest {
  if (!manifest) throw new Error(`"${label}" has no manifest`);
  return manifest;
}
