import { explaining, LoopboxError } from '../errors';
import type { Chain } from '../image/chain';
import { replayJournal } from '../image/check-filesystem';
import { copyView } from '../image/copy-view';
import { defaultConfig, type Manifest } from '../image/manifest';
import { NewFile } from '../image/new-file';
import { seal } from '../image/seal';
import { readSuperblock, setReadOnlyFeature } from '../image/superblock';
import type { Warn, WorkOptions } from '../progress';
import { inspectRun } from '../runtime/status';
import { type Attach, chooseAttach } from './attach-choice';
import { openPresent } from './claim-chain';
import { publishContainer, renewIdentity, requireFreeName } from './create';
import { claimImage } from './disk';
import { publishLinked } from './linked';
import { takeVerbLock } from './locks';
import { checkContainerName } from './names';
import type { ImageCopy } from './new-image';
import { openChain, openView, type View } from './open-chain';
import { openPassingSnapshot } from './passing-snapshot';
import { freezeTop } from './replace-top';
import { requireStopped } from './require-stopped';
import { findSnapshot, requireManifest } from './snapshot-files';
import { parseSnapshotArgument } from './snapshot-names';
import type { Store } from './store';
import { type Work, workOn } from './work';

export interface CloneOptions extends WorkOptions {
  warn: Warn;
  /** A delta on the source's files in place of a copy. */
  linked: boolean;
  /** Keeps machine-id, host name and file-system uuid. */
  keepIdentity: boolean;
}

export interface Cloned {
  name: string;
  path: string;
  sizeBytes: number;
  /** What it was made of, as it was given. */
  from: string;
  how: 'reflink' | 'copy' | 'linked';
  /** How it will be attached, as this host is now. */
  attach: Attach;
}

/**
 * Makes the container NAME of a snapshot, or of the present of a container or stopped FILE: a copy that needs no other file, or a delta on the source's.
 * It is there whole or not at all. Throws ERR_LOOPBOX_EXISTS for a name that is taken.
 */
export function cloneContainer(store: Store, from: string, name: string, options: CloneOptions): Promise<Cloned> {
  return explaining(`clone "${from}"`, () => clone(store, from, name, options));
}

async function clone(store: Store, from: string, name: string, options: CloneOptions): Promise<Cloned> {
  checkContainerName(name);
  store.prepare();
  await using _lock = await takeVerbLock(store.verbLockPath(name), name, options.signal);
  await requireFreeName(store, name);
  if (options.linked) return await link(store, from, name, options);
  await using source = await openView(store, from, 'clone', options.signal);
  return await copyOf(store, source, name, from, options);
}

/** The source's verb lock is held until the link is there: what nobody stands on may be merged away. */
async function link(store: Store, from: string, name: string, options: CloneOptions): Promise<Cloned> {
  const { container, snapshot } = parseSnapshotArgument(from);
  if (container.includes('/')) {
    throw new LoopboxError('ERR_LOOPBOX_USAGE', `Cannot link a clone to "${from}": it is a file given by path`, {
      hint: `loopbox import ${from}`,
    });
  }
  await using work = await workOn(store, container, 'clone', options.signal);
  const path =
    snapshot === undefined ? await pathOfPresent(store, work, options.signal) : findSnapshot(work.files, container, snapshot).path;
  await using chain = await openChain(store, { path, label: from }, { signal: options.signal, held: work.held });
  for (const layer of chain.layers) await claimImage(layer, 'shared');
  requireManifest(chain.top);
  const published = await publishLinked(store, name, chain, contentOf(chain), options);
  return { name, path: published, sizeBytes: chain.sizeBytes, from, how: 'linked', attach: 'stack' };
}

/** What can be stood on: of a container that runs, what was its top until now. */
async function pathOfPresent(store: Store, work: Work, signal: AbortSignal | undefined): Promise<string> {
  const { target } = work;
  const { running, record } = await inspectRun(target.directory);
  if (!running || !record.server) {
    await requireStopped(store, target, 'clone');
    await freezePresent(store, work, signal);
    return target.path;
  }
  await using passing = await openPassingSnapshot(store, work, record, signal);
  return passing.path;
}

/** Only a sealed file is stood on; the next start of its container goes on in another. */
async function freezePresent(store: Store, { target, held }: Work, signal: AbortSignal | undefined): Promise<void> {
  await using present = await openPresent(store, target, { signal, held });
  requireManifest(present.top);
  await freezeTop(present.top, held);
  await seal(present.top, {}, held);
}

function contentOf({ top }: Chain): Pick<Manifest, 'config' | 'template'> {
  const { config = defaultConfig(), template } = top.manifest ?? {};
  return { config, ...(template && { template }) };
}

async function copyOf(store: Store, { chain, label }: View, name: string, from: string, options: CloneOptions): Promise<Cloned> {
  const content = contentOf(chain);
  await using file = await NewFile.create(store.containersDirectory);
  const how = await copyView(chain.viewLayers(), file.fd, options);
  await setReadOnlyFeature(file.fd, false);
  if ((await readSuperblock(file.fd))?.needsRecovery) await replayJournal(file.fd, label, options.signal);
  const { blockSize = 4096 } = (await readSuperblock(file.fd)) ?? {};
  const copy: ImageCopy = { file, sizeBytes: chain.sizeBytes, blockSize, how, [Symbol.asyncDispose]: () => file.close() };
  if (!options.keepIdentity) await renewIdentity(copy, name, content.config);
  options.signal?.throwIfAborted();
  const path = await publishContainer(store, name, copy, content);
  const attach = await chooseAttach(store, chain.image, { name, config: content.config });
  return { name, path, sizeBytes: chain.sizeBytes, from, how, attach };
}
