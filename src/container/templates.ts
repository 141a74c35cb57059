import { constants } from 'node:fs';
import { open, rm } from 'node:fs/promises';
import { explain, explaining, LoopboxError } from '../errors';
import { Chain } from '../image/chain';
import { openImage } from '../image/image-file';
import { imageSize, makeFileSystem } from '../image/make-filesystem';
import { type Config, defaultConfig, type Manifest } from '../image/manifest';
import { NewFile, syncDirectory } from '../image/new-file';
import { openTar } from '../image/read-tar';
import { sealNewImage } from '../image/seal';
import { hasExt4Magic } from '../image/superblock';
import { extract } from '../mount/extract';
import { cleanIdentity } from '../mount/identity';
import type { WorkOptions } from '../progress';
import { GiB } from '../units';
import { newUuid } from '../uuid';
import { applyConfigChange, type ConfigChange } from './config-input';
import { claimImage, fillDisk, takeAttachmentLock } from './disk';
import { FileLock, structureWaitMs, takeStructureLock, takeVerbLock } from './locks';
import { checkTemplateName } from './names';
import { copyToNewImage, type ImageCopy } from './new-image';
import { openView } from './open-chain';
import { ownBytes } from './own-bytes';
import type { Store } from './store';
import { StoreFiles } from './store-files';
import { freeUsers, requireUnused, usersOfTemplate } from './template-users';

export interface TemplateImportOptions extends WorkOptions {
  change: ConfigChange;
  /** Bytes; 10 GiB for a tar, the image's own size for an image, rounded up to 128 MiB. */
  sizeBytes?: number | undefined;
}

export interface TemplateInfo {
  name: string;
  path: string;
  sizeBytes: number;
  ownBytes: number;
  created?: string;
  state?: string;
  config?: Config;
  /** The containers that are linked to it. */
  usedBy?: string[];
  /** Why it can't be used, where that is so. */
  problem?: string;
}

/**
 * Imports a root file system as the sealed template NAME[:VERSION]: a tar (plain, gzip, xz, zstd; `-` is standard input) or a
 * raw ext4 image. The template is there whole or not at all.
 */
export function importTemplate(store: Store, name: string, source: string, options: TemplateImportOptions): Promise<TemplateInfo> {
  return explaining(`import template "${name}"`, () => makeTemplate(store, name, source, options));
}

async function makeTemplate(store: Store, name: string, source: string, options: TemplateImportOptions): Promise<TemplateInfo> {
  checkTemplateName(name);
  store.prepare();
  await using _lock = await takeTemplateLock(store, name, options.signal);
  requireFreeTemplate(store, name);
  const isImage = await isRawImage(source);
  await using copy = isImage ? await copyRawImage(store, source, options) : await fillFromTar(store, name, source, options);
  options.signal?.throwIfAborted();
  return await publishTemplate(store, name, copy, applyConfigChange(copy.config, options.change));
}

/** Makes a sealed template of a stopped container or a snapshot, without the container's identity. Returns also what was cleaned. */
export async function createTemplate(
  store: Store,
  name: string,
  from: string,
  options: WorkOptions,
): Promise<TemplateInfo & { cleaned: string[] }> {
  checkTemplateName(name);
  store.prepare();
  await using _lock = await takeTemplateLock(store, name, options.signal);
  requireFreeTemplate(store, name);
  await using view = await openView(store, from, 'make a template of', options.signal);
  const { manifest } = view.chain.top;
  await using copy = await copyToNewImage(view.chain, store.templatesDirectory, { ...options, label: name, check: manifest === undefined });

  const cleaned = await fillDisk({ fd: copy.file.fd, ...copy }, name, ({ mount }) => cleanIdentity(mount));
  return { ...(await publishTemplate(store, name, copy, templateConfig(manifest))), cleaned };
}

/** The image's config without the host name: that was the container's own, and a container made from the template has its name for it. */
function templateConfig(manifest: Manifest | undefined): Config {
  const { hostname: _, ...config } = manifest?.config ?? defaultConfig();
  return config;
}

export async function listTemplates(store: Store): Promise<TemplateInfo[]> {
  return Promise.all(store.templateNames().map((name) => describeTemplate(store, name)));
}

/** Throws ERR_LOOPBOX_NOT_FOUND for an unknown template. */
export async function inspectTemplate(store: Store, name: string): Promise<TemplateInfo> {
  requireTemplate(store, name);
  return { ...(await describeTemplate(store, name)), usedBy: usersOfTemplate(await StoreFiles.scan(store), name) };
}

export interface RemoveTemplateOptions extends WorkOptions {
  /** Makes the containers that are linked to it independent first. */
  flattenUsers?: boolean | undefined;
}

/**
 * Removes a template. Containers made from it hold copies, or share blocks by reflink, and lose nothing; where some are linked to it, that is
 * ERR_LOOPBOX_IN_USE, unless they are freed first.
 */
export async function removeTemplate(store: Store, name: string, options: RemoveTemplateOptions = {}): Promise<void> {
  requireTemplate(store, name);
  await using _lock = await takeTemplateLock(store, name);
  if (options.flattenUsers) await freeUsers(store, name, options);
  await using _structure = await takeStructureLock(store, 'exclusive', structureWaitMs);
  await requireUnused(store, name);
  await using file = await open(store.templatePath(name), 'r');
  await takeAttachmentLock({ fd: file.fd, path: store.templatePath(name) }, name);
  await rm(store.templatePath(name));
  await syncDirectory(store.templatesDirectory);
}

async function describeTemplate(store: Store, name: string): Promise<TemplateInfo> {
  const path = store.templatePath(name);
  try {
    await using image = await openImage(path, { label: name });
    const { manifest } = image;
    return {
      name,
      path,
      sizeBytes: image.sizeBytes,
      ownBytes: await ownBytes(image.fd),
      ...(manifest && { created: manifest.created, state: manifest.state, config: manifest.config }),
      ...(!manifest?.sealed && { problem: 'it is not sealed' }),
    };
  } catch (error) {
    if (!(error instanceof LoopboxError)) throw error;
    return { name, path, sizeBytes: 0, ownBytes: 0, problem: error.message };
  }
}

async function isRawImage(source: string): Promise<boolean> {
  if (source === '-') return false;
  try {
    // Never wait for a fifo's writer.
    await using file = await open(source, constants.O_RDONLY | constants.O_NONBLOCK);
    return (await file.stat()).isFile() && (await hasExt4Magic(file.fd));
  } catch (error) {
    throw explain(error, `open "${source}"`);
  }
}

/** A template in the making, with the config that it brings along. */
type Template = ImageCopy & { config: Config };

async function copyRawImage(store: Store, source: string, options: TemplateImportOptions): Promise<Template> {
  await using image = await openImage(source, { label: source });
  await claimImage(image, 'shared');
  const copy = await copyToNewImage(new Chain([image], undefined), store.templatesDirectory, { ...options, label: source, check: true });
  return { ...copy, config: templateConfig(image.manifest) };
}

async function fillFromTar(store: Store, name: string, source: string, options: TemplateImportOptions): Promise<Template> {
  const sizeBytes = imageSize(options.sizeBytes ?? 10 * GiB);
  await using tar = await openTar(source, options);
  const file = await NewFile.create(store.templatesDirectory);
  try {
    await makeFileSystem(file.fd, sizeBytes, options.signal);
    await fillDisk({ fd: file.fd, sizeBytes, blockSize: 4096 }, name, ({ mount }) => extract(mount, tar.entries()));
    return { file, sizeBytes, blockSize: 4096, how: 'copy', config: defaultConfig(), [Symbol.asyncDispose]: () => file.close() };
  } catch (error) {
    await file.close();
    throw error;
  }
}

async function publishTemplate(store: Store, name: string, copy: ImageCopy, config: Config): Promise<TemplateInfo> {
  const manifest: Manifest = {
    kind: 'image',
    state: newUuid(),
    name,
    sizeBytes: copy.sizeBytes,
    created: new Date().toISOString(),
    config,
  };
  await sealNewImage(copy.file.fd, copy.sizeBytes, manifest);
  await copy.file.publish(store.templatePath(name));
  return describeTemplate(store, name);
}

function takeTemplateLock(store: Store, name: string, signal?: AbortSignal): Promise<FileLock> {
  return takeVerbLock(store.verbLockPath(`template@${name}`), name, signal);
}

function requireTemplate(store: Store, name: string): void {
  checkTemplateName(name);
  if (store.templateNames().includes(name)) return;
  throw new LoopboxError('ERR_LOOPBOX_NOT_FOUND', `Cannot open template "${name}": it does not exist`, { hint: 'loopbox template ls' });
}

function requireFreeTemplate(store: Store, name: string): void {
  if (!store.templateNames().includes(name)) return;
  throw new LoopboxError('ERR_LOOPBOX_EXISTS', `Cannot create template "${name}": it exists`, {
    hint: `choose another name or version, or: loopbox template rm ${name}`,
  });
}
