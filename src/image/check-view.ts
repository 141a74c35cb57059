import { LoopboxError } from '../errors';
import type { WorkOptions } from '../progress';
import type { Chain } from './chain';
import { findProblems, replayJournal } from './check-filesystem';
import { copyView } from './copy-view';
import type { NewFile } from './new-file';
import { readSuperblock } from './superblock';

/**
 * `e2fsck -fn` on what a chain holds: all that is wrong, in e2fsck's words. The files themselves are only read: where there are several, or
 * a journal is to be replayed first, a throw-away copy is looked at, in a file that `newFile` makes.
 */
export async function checkView(chain: Chain, newFile: () => Promise<NewFile>, options: WorkOptions = {}): Promise<string[]> {
  const { image, layers, top } = chain;
  if (layers.length === 1 && !image.superblock.needsRecovery) return findProblems(image.fd, options.signal);
  await using copy = await newFile();
  await copyView(chain.viewLayers(), copy.fd, options);
  try {
    if ((await readSuperblock(copy.fd))?.needsRecovery) await replayJournal(copy.fd, top.label, options.signal);
  } catch (error) {
    if (!isCorrupt(error)) throw error;
    return [error.message];
  }
  return await findProblems(copy.fd, options.signal);
}

export function isCorrupt(error: unknown): error is LoopboxError {
  return error instanceof LoopboxError && error.code === 'ERR_LOOPBOX_CORRUPT';
}
