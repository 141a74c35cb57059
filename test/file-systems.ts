import { mkdir, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { MiB } from '../src/units';
import { execute, shell } from './execute';
import { cleanUp, temporaryDirectory } from './temporary';

/** A directory on XFS, which has reflinks: a file system in a file, mounted. */
export async function xfsDirectory(sizeBytes = 2048 * MiB): Promise<string> {
  return mountedFileSystem(sizeBytes, 'mkfs.xfs', '-q', '-m', 'reflink=1');
}

/** A directory on an ext4 of its own, to fill up. */
export async function smallFileSystem(sizeBytes: number): Promise<string> {
  return mountedFileSystem(sizeBytes, 'mkfs.ext4', '-q', '-F', '-m', '0');
}

async function mountedFileSystem(sizeBytes: number, command: string, ...args: string[]): Promise<string> {
  const directory = await temporaryDirectory();
  const image = join(directory, 'image');
  const target = join(directory, 'mount');
  await writeFile(image, '');
  await truncate(image, sizeBytes);
  await mkdir(target);
  await shell(command, ...args, image);
  await shell('mount', '-o', 'loop', image, target);
  cleanUp(() => unmount(target));
  return target;
}

/** A container that has just ended may hold the mount for another moment. */
async function unmount(target: string): Promise<void> {
  const deadline = Date.now() + 20_000;
  for (;;) {
    const result = await execute('umount', [target]);
    if (result.code === 0) return;
    if (Date.now() >= deadline) throw new Error(result.stderr);
    await sleep(50);
  }
}

/** Whether nobody holds a flock on the file. */
export async function lockIsFree(path: string): Promise<boolean> {
  return (await execute('flock', ['-n', path, 'true'])).code === 0;
}
