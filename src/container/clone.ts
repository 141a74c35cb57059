import { explaining, LoopboxError } from '../errors';
import { replayJournal } from '../image/check-filesystem';
import { copyView } from '../image/copy-view';
import { defaultConfig, type Manifest } from '../image/manifest';
import { NewFile } from '../image/new-file';
import { readSuperblock, setReadOnlyFeature } from '../image/superblock';
import type { Warn, WorkOptions } from '../progress';
import { publishContainer, renewIdentity, requireFreeName } from './create';
import { publishLinked } from './linked';
import { takeVerbLock } from './locks';
import { checkContainerName } from './names';
import type { ImageCopy } from './new-image';
import { openView, type View } from './open-chain';
import type { Store } from './store';

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
}

/**
 * Makes the container NAME of a snapshot, or of the present of a stopped container or FILE: a copy that needs no other file, or a delta on the source's.
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
  await using source = await openView(store, from, 'clone', options.signal);
  const content = contentOf(source);
  if (!options.linked) return await copyOf(store, source, name, content, from, options);
  const path = await publishLinked(store, name, requireInStore(store, source, from), content, options);
  return { name, path, sizeBytes: source.chain.sizeBytes, from, how: 'linked' };
}

function contentOf({ chain }: View): Pick<Manifest, 'config' | 'template'> {
  const { config = defaultConfig(), template } = chain.top.manifest ?? {};
  return { config, ...(template && { template }) };
}

async function copyOf(
  store: Store,
  { chain, label }: View,
  name: string,
  content: Pick<Manifest, 'config' | 'template'>,
  from: string,
  options: CloneOptions,
): Promise<Cloned> {
  await using file = await NewFile.create(store.containersDirectory);
  const how = await copyView(chain.viewLayers(), file.fd, options);
  await setReadOnlyFeature(file.fd, false);
  if ((await readSuperblock(file.fd))?.needsRecovery) await replayJournal(file.fd, label, options.signal);
  const { blockSize = 4096 } = (await readSuperblock(file.fd)) ?? {};
  const copy: ImageCopy = { file, sizeBytes: chain.sizeBytes, blockSize, how, [Symbol.asyncDispose]: () => file.close() };
  if (!options.keepIdentity) await renewIdentity(copy, name, content.config);
  options.signal?.throwIfAborted();
  const path = await publishContainer(store, name, copy, content);
  return { name, path, sizeBytes: chain.sizeBytes, from, how };
}

/** What a link leads to is looked for in the store, and has to stay there. */
function requireInStore(store: Store, { chain, label }: View, from: string): View['chain'] {
  const { manifest, path } = chain.top;
  if (!path.startsWith(`${store.containersDirectory}/`)) {
    throw new LoopboxError('ERR_LOOPBOX_USAGE', `Cannot link a clone to "${label}": it is not in the store`, {
      hint: `loopbox import ${from}`,
    });
  }
  if (manifest) return chain;
  throw new LoopboxError('ERR_LOOPBOX_NOT_SUPPORTED', `Cannot link a clone to "${label}": its file has no manifest`, {
    hint: `loopbox clone ${from} NEW-NAME`,
  });
}
