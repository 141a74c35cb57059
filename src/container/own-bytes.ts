import { fstatSync } from 'node:fs';
import { isSystemError } from '../errors';
import { native } from '../native';

/** What removal of the file would give back: its blocks, but for those that reflinks share. */
export async function ownBytes(fd: number): Promise<number> {
  const allocated = fstatSync(fd).blocks * 512;
  try {
    return Math.max(0, allocated - (await native().sharedBytes(fd)));
  } catch (error) {
    if (isSystemError(error, 'EOPNOTSUPP', 'ENOTTY')) return allocated;
    throw error;
  }
}
