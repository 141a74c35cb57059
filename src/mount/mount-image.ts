import { constants, readFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { Descriptor } from '../descriptor';
import { explain, isSystemError, LoopboxError } from '../errors';
import { native } from '../native';
import { Tree } from './tree';

/**
 * A mounted file system that is in no mount namespace: it is reached through this handle alone and unmounted with its last descriptor,
 * unless it has been moved into a namespace. `fd` is the mount itself, as fsmount gave it (O_PATH): what move_mount takes, by `/proc/PID/fd/N`.
 */
export class Mount extends Descriptor {
  /** All that is inside. */
  readonly tree: Tree;

  constructor(fd: number) {
    super(fd);
    this.tree = new Tree(fd);
  }

  /** Writes everything to the device; throws what the writes failed with. */
  async sync(): Promise<void> {
    try {
      await this.tree.use('.', constants.O_RDONLY, (fd) => native().syncFileSystem(fd));
    } catch (error) {
      throw explain(error, 'write the image');
    }
  }
}

/**
 * Mounts the ext4 file system on a block device (`/dev/loopN`): nodev, noatime, errors=remount-ro. Throws ERR_LOOPBOX_NOT_SUPPORTED where it is not
 * ext4 or has blocks too small for the device, and ERR_LOOPBOX_CORRUPT where the kernel finds it damaged.
 */
export async function mountImage(device: string): Promise<Mount> {
  try {
    return new Mount(await native().mountExt4(device));
  } catch (error) {
    throw await explainMount(error, device);
  }
}

const magicOffset = 1024 + 0x38;
const logBlockSizeOffset = 1024 + 0x18;

/** The kernel says EINVAL for nearly everything and ext4 leaves no words in the mount's log: the superblock tells which it was. */
async function explainMount(error: unknown, device: string): Promise<unknown> {
  if (!isSystemError(error, 'EINVAL', 'EUCLEAN', 'EBADMSG')) return explain(error, `mount "${device}"`);
  const unsupported = (state: string) =>
    new LoopboxError('ERR_LOOPBOX_NOT_SUPPORTED', `Cannot mount "${device}": ${state}`, { cause: error });
  await using file = await open(device);
  const { buffer, bytesRead } = await file.read(Buffer.alloc(2048), 0, 2048, 0);
  if (bytesRead < 2048 || buffer.readUInt16LE(magicOffset) !== 0xef53) return unsupported('it is not an ext4 file system');
  const blockSize = 1024 * 2 ** buffer.readUInt32LE(logBlockSizeOffset);
  const sectorSize = Number(readFileSync(`/sys/class/block/${device.replace('/dev/', '')}/queue/logical_block_size`, 'utf8'));
  if (blockSize < sectorSize) return unsupported(`its ${blockSize}-byte blocks are smaller than the device's ${sectorSize}-byte ones`);
  return new LoopboxError('ERR_LOOPBOX_CORRUPT', `Cannot mount "${device}": the kernel refuses its ext4 file system (${error.code})`, {
    hint: 'e2fsck -fn FILE',
    cause: error,
  });
}
