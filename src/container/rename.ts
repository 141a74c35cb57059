import { join } from 'node:path';
import { explain, isSystemError, LoopboxError } from '../errors';
import { formatFileName, parseFileName } from '../image/file-names';
import { writeManifest } from '../image/image-file';
import type { LayerFile } from '../image/layer-file';
import { renameDurably, syncDirectory } from '../image/new-file';
import { native } from '../native';
import { claimPresent } from './claim-chain';
import { isDroppedIn } from './identity';
import { FileLock, structureWaitMs, takeStructureLock } from './locks';
import { checkContainerName } from './names';
import { forgetFormer } from './remove';
import { requireStopped } from './require-stopped';
import type { Store } from './store';
import { namedTarget, openTarget, requireName, resolveTarget, type Target } from './target';
import { lockTarget, moveRunAlong } from './work';

/**
 * Renames a stopped container with all its files. The rename of its present is the commit: `recover` finishes what is cut after that, and of a
 * container of one file the next start.
 */
export async function renameContainer(store: Store, argument: string, newName: string): Promise<void> {
  const from = resolveTarget(store, argument);
  const name = requireName(from, 'rename');
  checkContainerName(newName);
  if (newName === name) throw new LoopboxError('ERR_LOOPBOX_USAGE', `Cannot rename "${newName}": it has this name`);
  const to = namedTarget(store, newName);
  await using _lock = await lockTarget(store, from);
  await using other = await FileLock.take(to.verbLockPath, 'exclusive', 500);
  if (!other) throw new LoopboxError('ERR_LOOPBOX_LOCKED', `Cannot rename "${from.label}": another command works on "${newName}"`);
  await requireStopped(store, from, 'rename');
  if (store.fileNamesOf(newName).length > 0) throw nameTaken(from, newName);
  await forgetFormer(store, to);
  await using _structure = await takeStructureLock(store, 'exclusive', structureWaitMs);
  await using top = await openTarget(from, { write: true });
  await claimPresent(top);
  try {
    await renameFiles(store, top, name, newName);
    moveRunAlong(store, name, newName);
    await renameInManifest(top, name, newName);
  } catch (error) {
    if (isSystemError(error, 'EEXIST')) throw nameTaken(from, newName);
    throw explain(error, `rename "${from.label}" to "${newName}"`);
  }
}

/** A present that has others beside it says what it was called until they are renamed, too. */
async function renameFiles(store: Store, top: LayerFile, oldName: string, newName: string): Promise<void> {
  const directory = store.containersDirectory;
  const rest = store.fileNamesOf(oldName).filter((fileName) => join(directory, fileName) !== top.path);
  if (rest.length > 0 && top.manifest && !isDroppedIn(top, oldName)) await writeManifest(top, { ...top.manifest, formerly: oldName });
  const extension = top.kind === 'image' ? 'img' : 'delta';
  await renameDurably(top.path, join(directory, formatFileName({ role: 'top', name: newName, extension })));
  for (const fileName of rest) {
    const parsed = parseFileName(fileName);
    if (parsed) await native().renameNoReplace(join(directory, fileName), join(directory, formatFileName({ ...parsed, name: newName })));
  }
  await syncDirectory(directory);
}

/**
 * Only the container that bore its name goes on bearing it. A file that was dropped in under another one bears none now, lest it pass for
 * the one that it is a copy of; a sealed one gets its name with its identity, at its first start.
 */
async function renameInManifest(top: LayerFile, oldName: string, newName: string): Promise<void> {
  if (!top.manifest || isDroppedIn(top, oldName)) return;
  const { name, formerly: _, ...manifest } = top.manifest;
  await writeManifest(top, name === oldName ? { ...manifest, name: newName } : manifest);
}

function nameTaken(from: Target, newName: string): LoopboxError {
  return new LoopboxError('ERR_LOOPBOX_EXISTS', `Cannot rename "${from.label}" to "${newName}": a container of this name exists`, {
    hint: `choose another name, or: loopbox rm ${newName}`,
  });
}
