import { existsSync } from 'node:fs';
import { explaining, LoopboxError } from '../errors';
import { Chain } from '../image/chain';
import { canHoldDelta } from '../image/delta-file';
import { type ImageFile, openImage, placeManifest } from '../image/image-file';
import type { Config, Manifest } from '../image/manifest';
import { giveNewIdentity } from '../mount/identity';
import type { WorkOptions } from '../progress';
import { newUuid } from '../uuid';
import { type Attach, chooseAttach, hasReflinks, isServable } from './attach-choice';
import { applyConfigChange, type ConfigChange } from './config-input';
import { claimImage, fillDisk } from './disk';
import { publishLinked } from './linked';
import { takeVerbLock } from './locks';
import { checkContainerName, checkTemplateName } from './names';
import { copyToNewImage, type ImageCopy, targetSize } from './new-image';
import { forgetFormer } from './remove';
import type { Store } from './store';
import { namedTarget } from './target';

export interface CreateOptions extends WorkOptions {
  template: string;
  change: ConfigChange;
  /** Bytes, rounded up to 128 MiB; the template's size unless told. */
  sizeBytes?: number | undefined;
  /** A delta on the template, which then has to stay, or a copy; a delta unless told, where it will be attached by the storage server, copying would take time, and the host holds a delta so long. */
  linked?: boolean | undefined;
}

export interface Created {
  name: string;
  path: string;
  sizeBytes: number;
  /** Whether the host shares the template's blocks, they were copied, or it stands on the template's file. */
  how: 'reflink' | 'copy' | 'linked';
  /** How it will be attached, as this host is now. */
  attach: Attach;
  /** Whether it was copied only because the host's file system holds no delta of that size. */
  isTooLargeToLink: boolean;
}

/**
 * Creates a container from a template: a reflink of it where the host can, else a delta on it, or a sparse copy; with an identity of its own.
 * It is there whole or not at all. Throws ERR_LOOPBOX_EXISTS for a name that is taken, ERR_LOOPBOX_NOT_FOUND for an unknown template.
 */
export function createContainer(store: Store, name: string, options: CreateOptions): Promise<Created> {
  return explaining(`create "${name}"`, () => create(store, name, options));
}

async function create(store: Store, name: string, options: CreateOptions): Promise<Created> {
  checkContainerName(name);
  checkTemplateName(options.template);
  store.prepare();
  await using _lock = await takeVerbLock(store.verbLockPath(name), name, options.signal);
  await requireFreeName(store, name);
  await using template = await openTemplate(store, options.template);
  const config = applyConfigChange(template.manifest.config, options.change);
  const origin = { name: options.template, state: template.manifest.state };
  const attach = await chooseAttach(store, template, { name, config });
  const chain = new Chain([template], undefined);
  const sizeBytes = options.sizeBytes === undefined ? template.sizeBytes : targetSize(chain, name, options.sizeBytes);
  const isLinkWanted = options.linked ?? (attach === 'stack' && isServable(template) && !(await hasReflinks(store)));
  const isTooLarge = isLinkWanted && options.linked === undefined && !(await canHoldDelta(store.containersDirectory, sizeBytes));
  if (isLinkWanted && !isTooLarge) {
    const path = await publishLinked(store, name, chain, { config, template: origin }, { ...options, sizeBytes });
    return { name, path, sizeBytes, how: 'linked', attach: 'stack', isTooLargeToLink: false };
  }
  await using copy = await copyToNewImage(chain, store.containersDirectory, {
    ...options,
    label: name,
    check: false,
  });

  await renewIdentity(copy, name, config);
  options.signal?.throwIfAborted();
  const path = await publishContainer(store, name, copy, { config, template: origin });
  return { name, path, sizeBytes: copy.sizeBytes, how: copy.how, attach, isTooLargeToLink: isTooLarge };
}

/** Makes a finished disk the container NAME, with ids of its own, and returns its path. */
export async function publishContainer(
  store: Store,
  name: string,
  { file, sizeBytes }: ImageCopy,
  content: Pick<Manifest, 'config' | 'template'>,
): Promise<string> {
  const ids = { container: newUuid(), state: newUuid() };
  await placeManifest(file.fd, sizeBytes, { kind: 'image', ...ids, name, sizeBytes, created: new Date().toISOString(), ...content });
  const path = store.containerPath(name);
  await file.publish(path);
  return path;
}

/** Gives the file system in a new file an identity of its own: uuid, machine-id, host name. */
export async function renewIdentity(
  copy: { file: { fd: number }; sizeBytes: number; blockSize: number },
  name: string,
  config: Config,
): Promise<void> {
  await fillDisk({ fd: copy.file.fd, ...copy }, name, ({ mount }) => giveNewIdentity(mount, { hostname: config.hostname ?? name }));
}

/** Throws ERR_LOOPBOX_EXISTS before long work; the publishing at its end refuses a name taken meanwhile all the same. */
export async function requireFreeName(store: Store, name: string): Promise<void> {
  const files = store.fileNamesOf(name);
  if (files.length === 0) return forgetFormer(store, namedTarget(store, name));
  if (!existsSync(store.containerPath(name))) throw restIsThere(name, files);
  throw new LoopboxError('ERR_LOOPBOX_EXISTS', `Cannot create "${name}": a container of this name exists`, {
    hint: `choose another name, or: loopbox rm ${name}`,
  });
}

/** Opens a template, locked against removal, and makes sure that nothing has changed it since it was sealed. */
export async function openTemplate(store: Store, name: string): Promise<ImageFile & { manifest: Manifest }> {
  if (!store.templateNames().includes(name)) {
    throw new LoopboxError('ERR_LOOPBOX_NOT_FOUND', `Cannot open template "${name}": it does not exist`, { hint: 'loopbox template ls' });
  }
  const image = await openImage(store.templatePath(name), { label: name });
  try {
    await claimImage(image, 'shared');
    if (!image.manifest?.sealed) {
      throw new LoopboxError('ERR_LOOPBOX_WRONG_STATE', `Cannot use template "${name}": it is not sealed`, {
        path: image.path,
        hint: `mv ${image.path} . && loopbox template import ${name} ./${name}.img`,
      });
    }
    return image as ImageFile & { manifest: Manifest };
  } catch (error) {
    await image.close();
    throw error;
  }
}

function restIsThere(name: string, files: string[]): LoopboxError {
  return new LoopboxError('ERR_LOOPBOX_EXISTS', `Cannot create "${name}": files of a former container are there: ${files.join(', ')}`, {
    hint: `choose another name, or: loopbox rm --snapshots ${name}`,
  });
}
