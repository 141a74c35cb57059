import { constants } from 'node:fs';
import { open } from 'node:fs/promises';
import { isSystemError } from '../errors';
import { syncDirectory } from '../image/new-file';
import type { IndexedFile } from '../image/state-index';
import { unlinkNeedless } from '../image/unlink-file';
import { takeStructureLock, tryLock } from './locks';
import type { Store } from './store';
import { StoreFiles } from './store-files';

const structureWaitMs = 10_000;

/** Unlinks the files of a container that have no name and that nobody stands on or has attached. For the holder of its verb lock. */
export async function unlinkUnneeded(store: Store, name: string): Promise<void> {
  await using _lock = await takeStructureLock(store, 'exclusive', structureWaitMs);
  // What stood on a file that goes may have been the last that needed the one below.
  for (let goesOn = true; goesOn; ) {
    const files = await StoreFiles.scan(store);
    goesOn = false;
    await syncDirectory(store.containersDirectory);
    for (const file of files.ofContainer(name)) {
      if (file.parsed?.role !== 'nameless' || files.above(file).length > 0) continue;
      goesOn = (await unlinkIfFree(files, file)) || goesOn;
    }
    await syncDirectory(store.containersDirectory);
  }
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
