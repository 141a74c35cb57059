import { constants } from 'node:fs';
import { open } from 'node:fs/promises';
import { isSystemError } from '../errors';
import { syncDirectory } from '../image/new-file';
import type { IndexedFile } from '../image/state-index';
import { unlinkNeedless } from '../image/unlink-file';
import { structureWaitMs, takeStructureLock, tryLock } from './locks';
import type { Store } from './store';
import { StoreFiles } from './store-files';

/**
 * Unlinks the files of a container that have no name and that nobody stands on or has attached; returns whether there were any. For the
 * holder of its verb lock. `files` are the store's as the caller knows them.
 */
export async function unlinkUnneeded(store: Store, name: string, files: StoreFiles): Promise<boolean> {
  if (needless(files, name).length === 0) return false;
  await using _lock = await takeStructureLock(store, 'exclusive', structureWaitMs);
  let isAny = false;
  // What stood on a file that goes may have been the last that needed the one below.
  for (let goesOn = true; goesOn; isAny ||= goesOn) {
    await syncDirectory(store.containersDirectory);
    const now = await StoreFiles.scan(store);
    goesOn = false;
    for (const file of needless(now, name)) goesOn = (await unlinkIfFree(now, file)) || goesOn;
  }
  return isAny;
}

function needless(files: StoreFiles, name: string): IndexedFile[] {
  // One that can't be read may need any of them.
  if (files.index.unread.length > 0) return [];
  const isNeeded = (file: IndexedFile) => files.above(file).length > 0 || files.index.children(file.manifest.state).length > 0;
  return files.ofContainer(name).filter((file) => file.parsed?.role === 'nameless' && !isNeeded(file));
}

async function unlinkIfFree(files: StoreFiles, file: IndexedFile): Promise<boolean> {
  try {
    await using held = await open(file.path, constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOFOLLOW);
    if (!tryLock(held.fd, 'exclusive')) return false;
    await unlinkNeedless(file, { why: 'childless', index: files.index });
    return true;
  } catch (error) {
    // Gone already, or under a lease.
    if (isSystemError(error, 'ENOENT', 'EAGAIN')) return false;
    throw error;
  }
}
