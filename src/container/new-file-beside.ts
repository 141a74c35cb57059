import { dirname } from 'node:path';
import { isSystemError } from '../errors';
import { NewFile } from '../image/new-file';
import type { Store } from './store';

/** A file without a name in the directory of `path`, to share blocks with it where the host can; in the store where that can't be written. */
export async function newFileBeside(store: Store, path: string): Promise<NewFile> {
  try {
    return await NewFile.create(dirname(path));
  } catch (error) {
    if (!isSystemError(error, 'EROFS', 'EACCES', 'EOPNOTSUPP')) throw error;
    store.prepare();
    return NewFile.create(store.containersDirectory);
  }
}
