import { close, fdatasync, fstat, fsync, ftruncate, open, read, write } from 'node:fs';
import { promisify } from 'node:util';

/** `fs` calls on plain descriptors, which go to the addon and to child programs unchanged (a `FileHandle` would close itself). */
export const openFile = promisify(open);
export const closeFile = promisify(close);
export const fileStatus = promisify(fstat);
/** Sets the length; what is added is a hole. */
export const setLength = promisify(ftruncate);
export const syncData = promisify(fdatasync);
export const syncFile = promisify(fsync);

const readSome = promisify(read);
const writeSome = promisify(write);

/** Reads `length` bytes at `position`, fewer only where the file ends. */
export async function readAt(fd: number, position: number, length: number): Promise<Buffer> {
  const buffer = Buffer.allocUnsafe(length);
  let done = 0;
  while (done < length) {
    const { bytesRead } = await readSome(fd, buffer, done, length - done, position + done);
    if (bytesRead === 0) break;
    done += bytesRead;
  }
  return buffer.subarray(0, done);
}

/** Writes all of `bytes` at `position`. */
export async function writeAt(fd: number, position: number, bytes: Uint8Array): Promise<void> {
  let done = 0;
  while (done < bytes.length) done += (await writeSome(fd, bytes, done, bytes.length - done, position + done)).bytesWritten;
}
