import { LoopboxError } from '../errors';
import { native } from '../native';
import { run } from '../process';
import { KiB } from '../units';
import { runE2fsck } from './check-filesystem';
import { setLength, syncFile } from './file-io';
import { readSuperblock, type Superblock } from './superblock';

/**
 * Grows the unmounted file system in a file that no one else knows to `sizeBytes` (a multiple of its block size). What lay behind the
 * file system, old manifest slots included, is gone, and the file ends with the file system. CORRUPT where e2fsck finds damage.
 */
export async function growFileSystem(fd: number, sizeBytes: number, signal?: AbortSignal): Promise<void> {
  const superblock = await readSuperblock(fd);
  if (!superblock || superblock.sizeBytes > sizeBytes) throw new Error(`growFileSystem: can't grow to ${sizeBytes} bytes`);
  await setLength(fd, sizeBytes);
  if (superblock.sizeBytes === sizeBytes) return;
  await native().punchHole(fd, superblock.sizeBytes, sizeBytes - superblock.sizeBytes);
  await resize(fd, superblock, sizeBytes, signal);
}

/** Grows the unmounted file system of an open device of that size; durable on return. CORRUPT where e2fsck finds damage. */
export async function growFileSystemOfDevice(fd: number, sizeBytes: number, signal?: AbortSignal): Promise<void> {
  const superblock = await readSuperblock(fd);
  if (!superblock || superblock.sizeBytes > sizeBytes) throw new Error(`growFileSystemOfDevice: can't grow to ${sizeBytes} bytes`);
  if (superblock.sizeBytes < sizeBytes) await resize(fd, superblock, sizeBytes, signal);
  await syncFile(fd);
}

async function resize(fd: number, superblock: Superblock, sizeBytes: number, signal: AbortSignal | undefined): Promise<void> {
  if (superblock.needsCheck || superblock.needsRecovery || superblock.hasErrors) await repair(fd, signal);
  await run('resize2fs', ['/dev/fd/3', `${sizeBytes / KiB}K`], { fds: [fd], signal });
}

/** resize2fs insists on a full check of what was mounted since the last one; `-p` replays the journal and refuses real damage. */
async function repair(fd: number, signal: AbortSignal | undefined): Promise<void> {
  const { code, stdout, stderr } = await runE2fsck(fd, ['-f', '-p'], signal);
  if (code > 1)
    throw new LoopboxError('ERR_LOOPBOX_CORRUPT', `Cannot grow the file system: e2fsck found damage: ${(stdout || stderr).trim()}`);
}
