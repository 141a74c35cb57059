import { isSystemError } from '../errors';
import { native } from '../native';
import type { WorkOptions } from '../progress';
import { formatSize, MiB } from '../units';
import { setLength } from './file-io';
import { lengthen } from './lengthen';

/** Small enough that Ctrl-C and the progress line feel immediate, large enough that calls don't count. */
const chunkLength = 64 * MiB;

/**
 * Copies the first `lengthBytes` of `source` into the empty file `destination`, which gets that length: by sharing blocks where the host can,
 * else data only, holes staying holes. Progress counts the bytes of the image, holes included. The caller syncs.
 */
export async function copyImage(
  source: number,
  destination: number,
  lengthBytes: number,
  options: WorkOptions = {},
): Promise<'reflink' | 'copy'> {
  options.signal?.throwIfAborted();
  if (await tryReflink(source, destination)) {
    await setLength(destination, lengthBytes);
    return 'reflink';
  }
  await lengthen(destination, lengthBytes, `a copy of ${formatSize(lengthBytes)}`);
  let position = 0;
  while (position < lengthBytes) {
    const data = await native().nextData(source, position);
    const end = Math.min(data?.end ?? lengthBytes, lengthBytes);
    for (let start = data ? Math.min(data.start, end) : end; start < end; start += chunkLength) {
      options.signal?.throwIfAborted();
      await native().copyRanges(source, destination, 0, Float64Array.of(start, Math.min(start + chunkLength, end)), false);
      options.onProgress?.({ action: 'copying', doneBytes: Math.min(start + chunkLength, end), totalBytes: lengthBytes });
    }
    position = end;
  }
  options.onProgress?.({ action: 'copying', doneBytes: lengthBytes, totalBytes: lengthBytes });
  return 'copy';
}

async function tryReflink(source: number, destination: number): Promise<boolean> {
  try {
    await native().reflink(destination, source);
    return true;
  } catch (error) {
    if (isSystemError(error, 'EOPNOTSUPP', 'ENOTSUP', 'ENOTTY', 'ENOSYS', 'EXDEV', 'EINVAL', 'EPERM')) return false;
    throw error;
  }
}
