import { closeSync, constants, fstatSync, openSync, readFileSync, statSync } from 'node:fs';
import { Descriptor } from '../descriptor';
import { isSystemError, LoopboxError } from '../errors';
import { native } from '../native';
import type { RunRecord } from './run-directory';

/**
 * A descriptor in the file system that is on a run's loop device, good for syncfs, FIFREEZE and FITHAW: by the root of the container's first process,
 * or, where that has ended or has another file system as its root now, by a mount of its own. While it is open the device stays attached.
 * Throws ERR_LOOPBOX_WRONG_STATE where the device is another's by now.
 */
export async function openFileSystem({ label, pid, loop }: Pick<RunRecord, 'label' | 'pid' | 'loop'>): Promise<Descriptor> {
  const device = `/dev/loop${loop.index}`;
  const isSame = () => readSequence(loop.index) === loop.diskSequence;
  const root = isSame() ? (openRoot(pid, device) ?? (await openByMount(device))) : undefined;
  // From here on the number can't be reused, but it can have been in between.
  if (root && isSame()) return root;
  await root?.close();
  throw new LoopboxError('ERR_LOOPBOX_WRONG_STATE', `Cannot reach the file system of "${label}": it is not attached any more`);
}

/** Undefined where that is no directory on this device: a process can choose another root, a file system of the host's even. */
function openRoot(pid: number, device: string): Descriptor | undefined {
  let fd: number;
  try {
    fd = openSync(`/proc/${pid}/root`, constants.O_RDONLY | constants.O_DIRECTORY);
  } catch (error) {
    if (isSystemError(error, 'ENOENT', 'ESRCH')) return undefined;
    throw error;
  }
  if (fstatSync(fd).dev === statSync(device, { throwIfNoEntry: false })?.rdev) return new Descriptor(fd);
  closeSync(fd);
  return undefined;
}

/** A second mount of a device is another way into the same file system. */
async function openByMount(device: string): Promise<Descriptor | undefined> {
  try {
    await using mount = new Descriptor(await native().mountExt4(device));
    return new Descriptor(await native().openInRoot(mount.fd, '.', constants.O_RDONLY | constants.O_DIRECTORY, 0));
  } catch (error) {
    // Nothing is attached there.
    if (isSystemError(error, 'ENOENT', 'ENXIO', 'EINVAL', 'EIO')) return undefined;
    throw error;
  }
}

function readSequence(index: number): number | undefined {
  try {
    return Number(readFileSync(`/sys/block/loop${index}/diskseq`, 'utf8'));
  } catch (error) {
    if (isSystemError(error, 'ENOENT', 'ENODEV')) return undefined;
    throw error;
  }
}
