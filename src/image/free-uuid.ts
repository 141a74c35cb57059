import { run } from '../process';
import { readSuperblock } from './superblock';

/**
 * Makes the uuid of an unmounted file system one that can be changed at once later (`metadata_csum_seed`, ext4(5)); images by the
 * recipe are so, Debian 12's mke2fs makes others. Idempotent.
 */
export async function freeUuid(fd: number, signal?: AbortSignal): Promise<void> {
  if ((await readSuperblock(fd))?.checksumsNeedUuid) await run('tune2fs', ['-O', 'metadata_csum_seed', '/dev/fd/3'], { fds: [fd], signal });
}
