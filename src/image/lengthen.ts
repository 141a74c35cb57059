import { isSystemError, LoopboxError } from '../errors';
import { fileStatus, setLength } from './file-io';

/**
 * Makes a file longer; what it gets is a hole. NOT_SUPPORTED, with the limit, where the host's file system holds no file that long: then it is
 * as before. `what` is the thing in the making, with its size.
 */
export async function lengthen(fd: number, lengthBytes: number, what: string): Promise<void> {
  if (await trySetLength(fd, lengthBytes)) return;
  const { size } = await fileStatus(fd);
  const limit = await longest(fd, size, lengthBytes);
  await setLength(fd, size);
  throw new LoopboxError(
    'ERR_LOOPBOX_NOT_SUPPORTED',
    `Cannot make ${what}: the host's file system holds no file of more than ${limit} bytes`,
    { hint: 'XFS holds larger files than ext4, whose limit is 16 TiB' },
  );
}

/** Makes a file longer or shorter; false, and nothing done, where the host's file system holds no file that long. */
export async function trySetLength(fd: number, lengthBytes: number): Promise<boolean> {
  try {
    await setLength(fd, lengthBytes);
    return true;
  } catch (error) {
    if (isSystemError(error, 'EFBIG', 'EINVAL')) return false;
    throw error;
  }
}

/** The length that is possible, and just below one that is not. */
async function longest(fd: number, possibleBytes: number, impossible: number): Promise<number> {
  let possible = possibleBytes;
  for (let end = impossible; end - possible > 1; ) {
    const middle = Math.floor((possible + end) / 2);
    if (await trySetLength(fd, middle)) possible = middle;
    else end = middle;
  }
  return possible;
}
