import { createHash } from 'node:crypto';
import { closeSync, createReadStream, fstatSync, openSync, readSync, statSync } from 'node:fs';
import { mkdir, rmdir } from 'node:fs/promises';
import { native } from '../src/native';
import { shell } from './execute';

const KiB = 1024;
const slotsLength = 64 * KiB;

/** Looks into an image as any Linux can: `mount -o loop,ro`, no loopbox. */
export async function withStockMount<T>(image: string, look: (directory: string) => Promise<T>): Promise<T> {
  const directory = `${image}.mount`;
  await mkdir(directory);
  try {
    await shell('mount', '-o', 'loop,ro', image, directory);
    try {
      return await look(directory);
    } finally {
      await shell('umount', directory);
    }
  } finally {
    await rmdir(directory);
  }
}

/** The shell line that prints every file of a file system with its checksum, from its root, sorted. */
export const listContent = 'cd / && find . -xdev -type f -exec sha256sum {} + | sort -k 2';

/** What `listContent` prints for a directory of the host. */
export function contentOf(directory: string): Promise<string> {
  return shell('sh', '-c', listContent.replace('cd /', 'cd "$0"'), directory);
}

/** All that a run straight from a file must leave as it is: the file's identity, and its bytes before and behind the file system's own. */
export function outsideOfDisk(image: string) {
  const { dev, ino, size, nlink, mode, uid, gid } = statSync(image);
  return {
    status: { dev, ino, nlink, mode, uid, gid },
    size,
    bootBlock: bytesOf(image, 0, KiB).toString('hex'),
    manifest: bytesOf(image, size - slotsLength, slotsLength)
      .toString('latin1')
      .replaceAll('\0', ''),
    uuid: uuidOf(image),
  };
}

/** The file system's uuid, as blkid tells it. */
export function uuidOf(image: string): string {
  return bytesOf(image, KiB + 0x68, 16).toString('hex');
}

/** A checksum of all that is in a file. */
export async function checksum(path: string): Promise<string> {
  const hash = createHash('sha256');
  for await (const chunk of createReadStream(path, { highWaterMark: 4 * KiB * KiB })) hash.update(chunk as Buffer);
  return hash.digest('hex');
}

/** What of a file the host has allocated, and what of that other files share (FIEMAP). */
export async function hostExtents(path: string): Promise<{ allocatedBytes: number; sharedBytes: number }> {
  const fd = openSync(path, 'r');
  try {
    return { allocatedBytes: fstatSync(fd).blocks * 512, sharedBytes: await native().sharedBytes(fd) };
  } finally {
    closeSync(fd);
  }
}

/** A piece of a file. */
export function bytesOf(path: string, position: number, length: number): Buffer {
  const fd = openSync(path, 'r');
  try {
    const buffer = Buffer.alloc(length);
    readSync(fd, buffer, 0, length, position);
    return buffer;
  } finally {
    closeSync(fd);
  }
}
