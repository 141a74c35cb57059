import { existsSync, mkdirSync, renameSync } from 'node:fs';
import { dirname } from 'node:path';
import { explain, isSystemError, LoopboxError } from '../errors';
import { type ImageFile, openImage, writeManifest } from '../image/image-file';
import { renameDurably } from '../image/new-file';
import { claimImage } from './disk';
import { isSealed } from './identity';
import { FileLock, takeVerbLock } from './locks';
import { checkContainerName } from './names';
import { forgetFormer } from './remove';
import { requireStopped } from './require-stopped';
import type { Store } from './store';
import { namedTarget, requireName, resolveTarget, type Target } from './target';

/**
 * Renames a stopped container. The file's rename is the commit; a crash before the manifest follows leaves a file that bears another
 * name, and the next start gives it the name of its file.
 */
export async function renameContainer(store: Store, argument: string, newName: string): Promise<void> {
  const from = resolveTarget(store, argument);
  requireName(from, 'rename');
  checkContainerName(newName);
  if (newName === from.name) throw new LoopboxError('ERR_LOOPBOX_USAGE', `Cannot rename "${newName}": it has this name`);
  const to = namedTarget(store, newName);
  await using _lock = await takeVerbLock(from.verbLockPath, from.label);
  await using other = await FileLock.take(to.verbLockPath, 'exclusive', 500);
  if (!other) throw new LoopboxError('ERR_LOOPBOX_LOCKED', `Cannot rename "${from.label}": another command works on "${newName}"`);
  await requireStopped(store, from, 'rename');
  if (existsSync(to.path)) throw nameTaken(from, newName);
  await forgetFormer(store, to);
  await using image = await openImage(from.path, { label: from.label, write: true });
  await claimImage(image, 'exclusive');
  try {
    await renameDurably(from.path, to.path);
  } catch (error) {
    if (isSystemError(error, 'EEXIST')) throw nameTaken(from, newName);
    throw explain(error, `rename "${from.label}" to "${newName}"`);
  }
  await renameInManifest(image, from.label, newName);
  moveAlong(from.directory.root, to.directory.root);
  moveAlong(store.logPath(from.id), store.logPath(to.id));
}

/**
 * Only the container that bore its name goes on bearing it. A file that was dropped in under another one bears none now, lest it pass for
 * the one that it is a copy of; a sealed one gets its name with its identity, at its first start.
 */
async function renameInManifest(image: ImageFile, oldName: string, newName: string): Promise<void> {
  if (!image.manifest || isSealed(image)) return;
  const { name, ...manifest } = image.manifest;
  await writeManifest(image, name === oldName ? { ...manifest, name: newName } : manifest);
}

function nameTaken(from: Target, newName: string): LoopboxError {
  return new LoopboxError('ERR_LOOPBOX_EXISTS', `Cannot rename "${from.label}" to "${newName}": a container of this name exists`, {
    hint: `choose another name, or: loopbox rm ${newName}`,
  });
}

/** The record of the last run and the log go with the container; they are no part of it. */
function moveAlong(from: string, to: string): void {
  if (!existsSync(from)) return;
  mkdirSync(dirname(to), { recursive: true, mode: 0o700 });
  renameSync(from, to);
}
