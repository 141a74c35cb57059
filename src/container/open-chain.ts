import { dirname } from 'node:path';
import { CleanupStack } from '../cleanup';
import { type Chain, resolveChain } from '../image/chain';
import { indexForChain } from '../image/chain-index';
import { type LayerFile, openLayer } from '../image/layer-file';
import type { ScanOptions } from '../image/state-index';
import { inspectRun } from '../runtime/status';
import { claimImage } from './disk';
import { openPassingSnapshot } from './passing-snapshot';
import { requireStopped } from './require-stopped';
import { findSnapshot } from './snapshot-files';
import { parseSnapshotArgument } from './snapshot-names';
import type { Store } from './store';
import { resolveTarget } from './target';
import { lockTarget, workOn } from './work';

/** A file that is the last of a chain, and what messages call it. */
export interface ChainPlace {
  path: string;
  label: string;
}

export interface ChainOptions extends Pick<ScanOptions, 'signal' | 'held'> {
  /** Opens what belongs to the top's own container for writing, too. */
  write?: boolean;
}

/** Opens a file with all that it stands on: what lies beside it first, then the store. Nothing is locked. Errors as of `openLayer` and `resolveChain`. */
export async function openChain(store: Store, { path, label }: ChainPlace, options: ChainOptions = {}): Promise<Chain> {
  const write = options.write ?? false;
  return chainBelow(store, await openLayer(path, { label, write }), options);
}

/** The chain of an open file, which takes it over. */
function chainBelow(store: Store, top: LayerFile, { signal, held, write = false }: ChainOptions): Promise<Chain> {
  const { containersDirectory, templatesDirectory } = store;
  const directories = [dirname(top.path), containersDirectory, templatesDirectory];
  return resolveChain(top, () => indexForChain(top, directories, { containersDirectory, signal, held }), { write });
}

/** A state that is open to be read, and that nobody changes while it is. */
export interface View extends AsyncDisposable {
  label: string;
  chain: Chain;
}

/**
 * Opens a state to read all of it: a snapshot (`NAME@SNAP`), the present of a stopped container or FILE, whose verb lock is held as
 * long as it is open, or what a container of the store that runs has on its disk at this moment. Each file gets a shared attachment lock.
 * Throws ERR_LOOPBOX_WRONG_STATE for a FILE that runs.
 */
export async function openView(store: Store, argument: string, verb: string, signal?: AbortSignal): Promise<View> {
  const { container, snapshot } = parseSnapshotArgument(argument);
  if (snapshot === undefined) return openPresent(store, container, verb, signal);
  // Only until all is open: names may change then, but nothing is taken from a file that others have open.
  await using work = await workOn(store, container, verb, signal);
  const chain = await openClaimed(
    store,
    { path: findSnapshot(work.files, container, snapshot).path, label: argument },
    { signal, held: work.held },
  );
  return { label: argument, chain, [Symbol.asyncDispose]: () => chain.close() };
}

async function openPresent(store: Store, argument: string, verb: string, signal: AbortSignal | undefined): Promise<View> {
  const target = resolveTarget(store, argument);
  await using cleanup = new CleanupStack();
  const lock = cleanup.use(await lockTarget(store, target, signal));
  const { held } = lock;
  const { running, record } = await inspectRun(target.directory);
  if (running && target.name !== undefined && !target.byPath) {
    const layer = await openPassingSnapshot(store, { target, name: target.name, held }, record, signal);
    const chain = await claimLayers(await chainBelow(store, layer, { signal, held }));
    return { label: target.label, chain, [Symbol.asyncDispose]: () => chain.close() };
  }
  await requireStopped(store, target, verb);
  const chain = await openClaimed(store, target, { signal, held });
  cleanup.disarm();
  const close = async () => {
    await using _lock = lock;
    await chain.close();
  };
  return { label: target.label, chain, [Symbol.asyncDispose]: close };
}

async function openClaimed(store: Store, place: ChainPlace, options: ChainOptions): Promise<Chain> {
  return claimLayers(await openChain(store, place, options));
}

/** Claims all files of a chain to be read; closes it where that fails. */
async function claimLayers(chain: Chain): Promise<Chain> {
  try {
    for (const layer of chain.layers) await claimImage(layer, 'shared');
    return chain;
  } catch (error) {
    await chain.close();
    throw error;
  }
}
