import { isSystemError } from '../errors';
import { NewFile } from '../image/new-file';
import { native } from '../native';

/** Whether files in the directory can share blocks. Tried, not guessed from the file system's name: XFS and btrfs can be made without it. */
export async function canReflink(directory: string): Promise<boolean> {
  await using from = await NewFile.create(directory);
  await using to = await NewFile.create(directory);
  try {
    await native().reflink(to.fd, from.fd);
    return true;
  } catch (error) {
    if (isSystemError(error, 'EOPNOTSUPP', 'EXDEV', 'EINVAL', 'ENOTTY')) return false;
    throw error;
  }
}
