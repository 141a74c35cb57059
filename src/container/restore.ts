import { CleanupStack } from '../cleanup';
import { explaining, LoopboxError } from '../errors';
import type { Chain } from '../image/chain';
import { commitTop, type TopCommit } from '../image/commit-top';
import { copyView } from '../image/copy-view';
import { formatFileName } from '../image/file-names';
import { placeManifest } from '../image/image-file';
import type { Config, SnapshotRecord } from '../image/manifest';
import { NewFile } from '../image/new-file';
import { setReadOnlyFeature } from '../image/superblock';
import type { Warn, WorkOptions } from '../progress';
import { inspectRun } from '../runtime/status';
import { newUuid } from '../uuid';
import { chooseAttach } from './attach-choice';
import { openPresent } from './claim-chain';
import { claimImage } from './disk';
import { openChain } from './open-chain';
import { freezeTop, replaceStoppedTop, topManifest } from './replace-top';
import { requireStopped } from './require-stopped';
import { findSnapshot, requireManifest, snapshotNames } from './snapshot-files';
import { requireSnapshotArgument, timedSnapshotName } from './snapshot-names';
import { startLocked } from './start';
import { stopLocked } from './stop';
import type { Store } from './store';
import { type Work, workOn } from './work';

export interface RestoreOptions extends WorkOptions {
  warn: Warn;
  /** Stops a container that runs, and starts it again. */
  restart: boolean;
  /** Seconds between its stop signal and KILL; 10 unless told. */
  timeoutSeconds?: number | undefined;
  /** Keeps the config of the present. */
  diskOnly: boolean;
}

export interface Restored {
  name: string;
  /** NAME@SNAP */
  from: string;
  /** The snapshot that its present until then is: NAME@before-restore-TIME. */
  kept: string;
}

/**
 * Makes the disk and the config of a snapshot the present of its container; what was the present is kept as a snapshot. The container's name, ids and
 * how it is attached stay. Throws ERR_LOOPBOX_WRONG_STATE where it runs and shall not be restarted.
 */
export function restoreSnapshot(store: Store, argument: string, options: RestoreOptions): Promise<Restored> {
  return explaining(`restore "${argument}"`, () => restore(store, argument, options));
}

async function restore(store: Store, argument: string, options: RestoreOptions): Promise<Restored> {
  const { container, snapshot } = requireSnapshotArgument(argument);
  await using work = await workOn(store, container, 'restore a snapshot of', options.signal);
  const { path } = findSnapshot(work.files, container, snapshot);
  const wasRunning = (await inspectRun(work.target.directory)).running;
  if (wasRunning && !options.restart) {
    throw new LoopboxError('ERR_LOOPBOX_WRONG_STATE', `Cannot restore "${argument}": "${container}" is running`, {
      hint: `loopbox snapshot restore --restart ${argument}`,
    });
  }
  if (wasRunning) await stopLocked(work.target, { timeoutSeconds: options.timeoutSeconds, signal: options.signal });
  await requireStopped(store, work.target, 'restore');
  const kept = await bringBack(store, work, path, argument, options);
  work.target.path = store.containerPath(container);
  if (wasRunning) await startLocked(store, work.target, { signal: options.signal, warn: options.warn, held: work.held });
  return { name: container, from: argument, kept: `${container}@${kept}` };
}

async function bringBack(
  store: Store,
  { name, target, files, held }: Work,
  path: string,
  label: string,
  options: RestoreOptions,
): Promise<string> {
  await using cleanup = new CleanupStack();
  const present = cleanup.use(await openPresent(store, target, { signal: options.signal, held }));
  const chain = cleanup.use(await openChain(store, { path, label }, { signal: options.signal, held }));
  // A snapshot may stand on the present, which is claimed already.
  for (const layer of chain.layers) if (layer.inode !== present.top.inode) await claimImage(layer, 'shared');
  const manifest = requireManifest(present.top);
  const now = new Date();
  const taken = snapshotNames(files, name);
  const kept = timedSnapshotName('before-restore', now, (candidate) => taken.has(candidate));
  const record: SnapshotRecord = { name: kept, created: now.toISOString(), consistency: 'stopped' };
  const config = options.diskOnly ? manifest.config : restoredConfig(requireManifest(chain.top).config, manifest.config);
  const attach = await chooseAttach(store, present.top, { name });
  if (attach === 'stack') await replaceStoppedTop(store, { name, present, kept, record, held, on: { chain, config } });
  else await replaceWhole(store, { name, present, kept, record, chain, config }, options);
  return kept;
}

interface WholeReplacement {
  name: string;
  present: Chain;
  kept: string;
  record: SnapshotRecord;
  chain: Chain;
  config: Config;
}

/** Makes a copy of the snapshot the present: one that shares its blocks where the host can. */
async function replaceWhole(
  store: Store,
  { name, present, kept, record, chain, config }: WholeReplacement,
  options: WorkOptions,
): Promise<void> {
  const directory = store.containersDirectory;
  await using file = await NewFile.create(directory);
  await copyView(chain.viewLayers(), file.fd, options);
  await setReadOnlyFeature(file.fd, false);
  const manifest = topManifest(requireManifest(present.top), config);
  await placeManifest(file.fd, chain.sizeBytes, { ...manifest, kind: 'image', state: newUuid(), sizeBytes: chain.sizeBytes });
  options.signal?.throwIfAborted();
  await freezeTop(present.top);
  await file.publish(`${directory}/${formatFileName({ role: 'next', name })}`);
  const commit: TopCommit = { directory, name, extension: 'img', kept };
  await commitTop(commit, 'image', record);
}

/** What the snapshot had, but for how the disk is stored, which is a matter of this host and of now. */
function restoredConfig(config: Config, present: Config): Config {
  const { attach: _, settle: __, ...rest } = config;
  const { attach, settle } = present;
  return { ...rest, ...(attach && { attach }), ...(settle && { settle }) };
}
