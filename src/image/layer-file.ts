import { type DeltaFile, judgeDelta } from './delta-file';
import { readAt } from './file-io';
import { type ImageFile, judgeImage } from './image-file';
import { slotsLength } from './manifest-slots';
import { type OpenOptions, openAndJudge } from './opened-file';
import { parseSuperblock, superblockLength, superblockOffset } from './superblock';

/** One file of a chain. */
export type LayerFile = ImageFile | DeltaFile;

/**
 * Opens an image or a delta, told by its content, and judges it. NOT_FOUND; IN_USE while a fold holds a lease on it; NOT_SUPPORTED for
 * what is recognized and is neither; CORRUPT for what is not recognized, cut short, has a wrong checksum, or a manifest that is lost or
 * makes no sense.
 */
export function openLayer(path: string, options: OpenOptions = {}): Promise<LayerFile> {
  return openAndJudge(path, options, async (file) => {
    // A delta never has ext4's magic there; and what a guest wrote into its file system is never taken for a delta's manifest.
    const head = await readAt(file.fd, 0, slotsLength);
    const superblock = parseSuperblock(head.subarray(superblockOffset, superblockOffset + superblockLength));
    return (superblock ? undefined : await judgeDelta(file, head)) ?? judgeImage(file);
  });
}
