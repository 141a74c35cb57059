import { existsSync, mkdirSync, renameSync } from 'node:fs';
import { dirname } from 'node:path';
import { explain, isSystemError, LoopboxError } from '../errors';
import { openImage, writeManifest } from '../image/image-file';
import { renameDurably } from '../image/new-file';
import { takeAttachmentLock } from './disk';
import { FileLock, takeVerbLock } from './locks';
import { checkContainerName } from './names';
import { requireStopped } from './start';
import type { Store } from './store';
import { namedTarget, requireName, resolveTarget } from './target';

/**
 * Renames a stopped container. The file's rename is the commit; a crash before the manifest follows leaves a file that bears another
 * name, and the next start gives it the name of its file.
 */
export async function renameContainer(store: Store, argument: string, newName: string): Promise<void> {
  const from = resolveTarget(store, argument);
  requireName(from, 'rename');
  checkContainerName(newName);
  const to = namedTarget(store, newName);
  await using _lock = await takeVerbLock(from.verbLockPath, from.label);
  await using other = await FileLock.take(to.verbLockPath, 'exclusive', 500);
  if (!other) throw new LoopboxError('ERR_LOOPBOX_LOCKED', `Cannot rename "${from.label}": another command works on "${newName}"`);
  await requireStopped(store, from, 'rename');
  await using image = await openImage(from.path, { label: from.label, write: true });
  takeAttachmentLock(image, from.label);
  try {
    await renameDurably(from.path, to.path);
  } catch (error) {
    const hint = isSystemError(error, 'EEXIST') ? `loopbox rm ${newName}` : undefined;
    throw explain(error, `rename "${from.label}" to "${newName}"`, { hint });
  }
  if (image.manifest) await writeManifest(image, { ...image.manifest, name: newName });
  moveAlong(from.directory.root, to.directory.root);
  moveAlong(store.logPath(from.id), store.logPath(to.id));
}

/** The record of the last run and the log go with the container; they are no part of it. */
function moveAlong(from: string, to: string): void {
  if (!existsSync(from)) return;
  mkdirSync(dirname(to), { recursive: true, mode: 0o700 });
  renameSync(from, to);
}
