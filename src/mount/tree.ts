import { close, constants, fchmod, fstat, ftruncate, read, readdir, type Stats, write } from 'node:fs';
import { promisify } from 'node:util';
import { isSystemError, LoopboxError } from '../errors';
import { native } from '../native';
import { MiB } from '../units';

const closeFd = promisify(close);
const statFd = promisify(fstat);
const readFd = promisify(read);
const writeFd = promisify(write);
const truncateFd = promisify(ftruncate);
const changeMode = promisify(fchmod);
const listDirectory = promisify(readdir);

/** A place in the file system without opening what is there (open(2)); Node does not name it. */
export const O_PATH = 0o10000000;

/** No text that we read from a container is longer than this; a hostile one may be. */
const maxTextBytes = 16 * MiB;

/**
 * The files below a directory descriptor, which stays the caller's. Paths are those of a process that has it as its root: absolute
 * or relative to it; symlinks are followed inside it and never lead out.
 */
export class Tree {
  readonly fd: number;

  constructor(fd: number) {
    this.fd = fd;
  }

  /** Opens, runs `body` with the descriptor, and closes it. Never waits for a fifo's other end. */
  async use<T>(path: string, flags: number, body: (fd: number) => Promise<T> | T, mode = 0): Promise<T> {
    const fd = await native().openInRoot(this.fd, path, flags, mode);
    try {
      return await body(fd);
    } finally {
      await closeFd(fd);
    }
  }

  /** The file's text, or undefined where there is none. Throws ERR_LOOPBOX_CORRUPT for what is no regular file or beyond 16 MiB. */
  readText(path: string): Promise<string | undefined> {
    return orUndefined(
      this.use(path, constants.O_RDONLY, async (fd) => {
        const { size } = await statRegular(fd, `read "${path}"`);
        if (size > maxTextBytes) throw new LoopboxError('ERR_LOOPBOX_CORRUPT', `Cannot read "${path}": it is larger than 16 MiB`);
        const { buffer, bytesRead } = await readFd(fd, Buffer.alloc(size), 0, size, 0);
        return buffer.toString('utf8', 0, bytesRead);
      }),
    );
  }

  /** Replaces the content of a file, or makes it with `mode`, whatever the umask is. */
  async writeText(path: string, text: string, mode: number): Promise<void> {
    const replace = async (fd: number) => {
      await statRegular(fd, `write "${path}"`);
      await truncateFd(fd, 0);
      await writeFd(fd, text, 0);
    };
    try {
      await this.use(path, constants.O_WRONLY, replace);
    } catch (error) {
      if (!isSystemError(error, 'ENOENT')) throw error;
      const make = async (fd: number) => {
        await changeMode(fd, mode);
        await replace(fd);
      };
      await this.use(path, constants.O_WRONLY | constants.O_CREAT, make, mode);
    }
  }

  /** Removes a file or a symlink; done where there is none. */
  async remove(path: string): Promise<void> {
    await orUndefined(native().removeInRoot(this.fd, path));
  }

  /** The names in a directory, or none where it does not exist. */
  async readDirectory(path: string): Promise<string[]> {
    const flags = constants.O_RDONLY | constants.O_DIRECTORY;
    return (await orUndefined(this.use(path, flags, (fd) => listDirectory(`/proc/self/fd/${fd}`)))) ?? [];
  }

  /** What a path leads to, or undefined. With `follow: false` a symlink at its end is told as such. */
  stat(path: string, { follow = true } = {}): Promise<Stats | undefined> {
    return orUndefined(this.use(path, O_PATH | (follow ? 0 : constants.O_NOFOLLOW), (fd) => statFd(fd)));
  }

  async exists(path: string): Promise<boolean> {
    return (await this.stat(path)) !== undefined;
  }
}

/** Whether `error` says that a path leads to nothing, be it for a file or a symlink loop in the middle of it. */
export function isNothingThere(error: unknown): boolean {
  return isSystemError(error, 'ENOENT', 'ENOTDIR', 'ELOOP', 'ENAMETOOLONG');
}

async function orUndefined<T>(promise: Promise<T>): Promise<T | undefined> {
  try {
    return await promise;
  } catch (error) {
    if (isNothingThere(error)) return undefined;
    throw error;
  }
}

async function statRegular(fd: number, action: string): Promise<Stats> {
  const stats = await statFd(fd);
  if (!stats.isFile()) throw new LoopboxError('ERR_LOOPBOX_CORRUPT', `Cannot ${action}: it is not a regular file`);
  return stats;
}
