import { constants } from 'node:fs';
import { type FileHandle, lstat, open } from 'node:fs/promises';
import { basename, dirname, resolve } from 'node:path';
import type { Writable } from 'node:stream';
import { explain, explaining, isSystemError, LoopboxError } from '../errors';
import { Chain } from '../image/chain';
import { copyView } from '../image/copy-view';
import { openImage, placeManifest, rescueImage } from '../image/image-file';
import { defaultConfig, type Manifest } from '../image/manifest';
import { NewFile } from '../image/new-file';
import { writeImageToStream } from '../image/stream-image';
import { setReadOnlyFeature } from '../image/superblock';
import { wholeImage } from '../image/whole-image';
import type { WorkOptions } from '../progress';
import { newUuid } from '../uuid';
import { publishContainer, renewIdentity, requireFreeName } from './create';
import { claimImage, takeAttachmentLock } from './disk';
import { takeVerbLock } from './locks';
import { checkContainerName } from './names';
import { copyToNewImage } from './new-image';
import { openView, type View } from './open-chain';
import type { Store } from './store';

export interface ExportOptions extends WorkOptions {
  /** Replaces a file that is there; without it that is ERR_LOOPBOX_EXISTS. */
  force?: boolean | undefined;
}

/**
 * Copies a container, running or not, or a snapshot, with all that it stands on, into one sparse file that is a container by itself, with ids of its own, or
 * writes the same bytes to a stream (of one that was never started and whose identity is due, with that still due). The file is there whole or not at all.
 */
export async function exportContainer(
  store: Store,
  argument: string,
  destination: string | Writable,
  options: ExportOptions = {},
): Promise<{ path?: string; sizeBytes: number }> {
  await using view = await openView(store, argument, 'export', options.signal);
  const { sizeBytes } = view.chain;
  const manifest = manifestOfExport(view);
  if (typeof destination !== 'string') {
    await writeImageToStream(view.chain.viewLayers(), manifest, destination, options);
    return { sizeBytes };
  }
  const path = resolve(destination);
  await exportToFile(view.chain, manifest, path, options);
  return { path, sizeBytes };
}

/** The manifest of a state as a whole image of its own: nothing of where it lay, nor of its past. */
function manifestOfExport({ label, chain }: View): Manifest {
  const { manifest, path } = chain.top;
  if (!manifest) {
    throw new LoopboxError('ERR_LOOPBOX_NOT_SUPPORTED', `Cannot export "${label}": it has no manifest`, { hint: `loopbox import ${path}` });
  }
  return { ...wholeImage(manifest), container: newUuid(), state: newUuid() };
}

async function exportToFile(chain: Chain, manifest: Manifest, path: string, options: ExportOptions): Promise<void> {
  try {
    await requireReplaceable(path, options.force ?? false);
    await using _replaced = await holdReplaced(path);
    await using file = await NewFile.create(dirname(path));
    await copyView(chain.viewLayers(), file.fd, options);
    await setReadOnlyFeature(file.fd, false);
    await placeManifest(file.fd, chain.sizeBytes, await withOwnIdentity(file, chain, manifest));
    await (options.force ? file.replace(path) : file.publish(path));
  } catch (error) {
    if (isSystemError(error, 'EOPNOTSUPP')) throw noUnnamedFiles(path, error);
    throw explain(error, `export to "${path}"`, { hint: isSystemError(error, 'EEXIST') ? replaceHint : undefined });
  }
}

/** A linked container that was never started still has the identity of what it stands on: a file has no first start to change that. */
async function withOwnIdentity(file: NewFile, { image, sizeBytes }: Chain, manifest: Manifest): Promise<Manifest> {
  const { identity, ...rest } = manifest;
  if (identity)
    await renewIdentity({ file, sizeBytes, blockSize: image.superblock.blockSize }, manifest.name ?? 'loopbox', manifest.config);
  return rest;
}

const replaceHint = 'add --force to replace it';

function noUnnamedFiles(path: string, cause: unknown): LoopboxError {
  return new LoopboxError(
    'ERR_LOOPBOX_NOT_SUPPORTED',
    `Cannot export to "${path}": its file system has no files without a name (O_TMPFILE)`,
    {
      hint: `loopbox export … - > ${path}`,
      cause,
    },
  );
}

/** Before long work: is there a file, and may it be replaced? Nothing else ever is: `/dev/null` is no place for an image. */
async function requireReplaceable(path: string, force: boolean): Promise<void> {
  const status = await lstat(path).catch((error: unknown) => {
    if (!isSystemError(error, 'ENOENT')) throw error;
  });
  if (!status) return;
  if (!status.isFile() && !status.isSymbolicLink()) {
    throw new LoopboxError('ERR_LOOPBOX_NOT_SUPPORTED', `Cannot export to "${path}": it is not a regular file`, { path });
  }
  if (!force) throw new LoopboxError('ERR_LOOPBOX_EXISTS', `Cannot export to "${path}": it exists`, { path, hint: replaceHint });
}

/**
 * What is to be replaced is locked until it is: no container may lose its file while it runs. The exported one's own is locked already.
 */
async function holdReplaced(path: string): Promise<FileHandle | undefined> {
  const file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW).catch((error: unknown) => {
    if (!isSystemError(error, 'ENOENT', 'ELOOP')) throw error;
  });
  if (!file) return undefined;
  try {
    await takeAttachmentLock({ fd: file.fd, path }, path);
    return file;
  } catch (error) {
    await file.close();
    throw error;
  }
}

export interface ImportOptions extends WorkOptions {
  name?: string | undefined;
  /** Takes the file system with a default config where the manifest is lost. */
  rescue?: boolean | undefined;
}

export interface Imported {
  name: string;
  path: string;
  sizeBytes: number;
}

/** Copies a raw ext4 file, with or without a manifest, into the store as a container of its own. Whole or not at all. */
export function importContainer(store: Store, source: string, options: ImportOptions): Promise<Imported> {
  return explaining(`import "${source}"`, () => importFile(store, source, options));
}

async function importFile(store: Store, source: string, options: ImportOptions): Promise<Imported> {
  const file = resolve(source);
  await using image = await (options.rescue ? rescueImage : openImage)(file, { label: source });
  await claimImage(image, 'shared');
  const name = options.name ?? image.manifest?.name ?? basename(file).replace(/\.(img|ext4|raw)$/, '');
  checkContainerName(name);
  store.prepare();
  await using _lock = await takeVerbLock(store.verbLockPath(name), name, options.signal);
  await requireFreeName(store, name);
  await using copy = await copyToNewImage(new Chain([image], undefined), store.containersDirectory, {
    ...options,
    label: source,
    check: true,
  });

  const config = image.manifest?.config ?? defaultConfig();
  await renewIdentity(copy, name, config);
  options.signal?.throwIfAborted();
  const path = await publishContainer(store, name, copy, {
    config,
    ...(image.manifest?.template && { template: image.manifest.template }),
  });
  return { name, path, sizeBytes: copy.sizeBytes };
}
