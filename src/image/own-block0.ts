import { type Chain, readBlocks } from './chain';
import type { DeltaFile } from './delta-file';
import { blockSize } from './delta-geometry';
import { readAt, syncData, writeAt } from './file-io';
import { parseSuperblock, superblockLength, superblockOffset, withReadOnlyFeature } from './superblock';

/**
 * Sees to it that the delta at the top of a chain owns block 0, without ext4's `read-only` feature: the kernel would mount it read-only.
 * For one that is about to be written to and was not made for that: it was sealed once, or kept by a fold. Durable; idempotent.
 */
export async function ownBlock0(chain: Chain): Promise<void> {
  const { top } = chain;
  if (top.kind === 'image') throw new TypeError('ownBlock0: an image owns all its blocks');
  const block0 = await readBlocks(chain, 0, blockSize);
  const bits = await firstBits(top);
  const superblock = parseSuperblock(block0.subarray(superblockOffset, superblockOffset + superblockLength));
  if (bits & 1 && superblock?.readOnly === false) return;
  await writeAt(top.fd, top.dataOffset, withReadOnlyFeature(block0, false));
  await syncData(top.fd);
  await writeAt(top.fd, top.mapOffset, Buffer.from([bits | 1]));
  await syncData(top.fd);
}

/** What a delta has as block 0; undefined where it does not own it. */
export async function readOwnBlock0(delta: DeltaFile): Promise<Buffer | undefined> {
  return (await firstBits(delta)) & 1 ? await readAt(delta.fd, delta.dataOffset, blockSize) : undefined;
}

/** Whether a delta owns its first 8 blocks, a bit for each. */
async function firstBits({ fd, mapOffset }: DeltaFile): Promise<number> {
  const [bits = 0] = await readAt(fd, mapOffset, 1);
  return bits;
}
