import { explaining } from '../errors';
import { native } from '../native';
import { attachedNumbers } from './list-loops';

/**
 * The loop devices of the host, ours and others', that are attached to the file with this device and inode (as stat has them), whatever
 * name it was attached by: `/dev/loopN`. One that is detached meanwhile is left out.
 */
export async function attachedTo(device: bigint, inode: bigint): Promise<string[]> {
  const indexes = await explaining('look through the loop devices', () => native().loopsBackedBy(attachedNumbers(), device, inode));
  return indexes.map((index) => `/dev/loop${index}`);
}
