import { constants, renameSync, rmSync } from 'node:fs';
import { readdir, unlink } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { Descriptor } from '../descriptor';
import { tryLock } from '../flock';
import { native } from '../native';
import { newUuid } from '../uuid';
import { closeFile, openFile, syncFile } from './file-io';
import { openImage } from './image-file';

/** A file in the making, without a name: dropped, or after a crash, nothing of it is left. */
export class NewFile extends Descriptor {
  /** In the directory that it shall be published in. EOPNOTSUPP where the file system knows no files without a name. */
  static async create(directory: string): Promise<NewFile> {
    return new NewFile(await native().openTemporary(directory));
  }

  /** Makes the file durable, then gives it its name, durably, or not at all. EEXIST where the name is taken: nothing is ever replaced. */
  async publish(path: string): Promise<void> {
    await syncFile(this.fd);
    await native().linkTemporary(this.fd, path);
    try {
      await syncDirectory(dirname(path));
    } catch (error) {
      await ignoringErrors(() => unlink(path));
      throw error;
    }
  }

  /** As `publish`, but in the place of a file that is there. Only a kill between two calls leaves a `.tmp-…` beside it, until the next `replace` there. */
  async replace(path: string): Promise<void> {
    const temporary = join(dirname(path), `${temporaryPrefix}${newUuid()}`);
    await removeTemporaries(dirname(path));
    await syncFile(this.fd);
    // Who finds it locked leaves it alone.
    tryLock(this.fd, 'exclusive');
    await native().linkTemporary(this.fd, temporary);
    try {
      renameSync(temporary, path);
    } catch (error) {
      rmSync(temporary);
      throw error;
    }
    await syncDirectory(dirname(path));
  }
}

const temporaryPrefix = '.tmp-';
const temporaryName = /^\.tmp-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

/** Removes what killed commands left in a directory on the way to another name. */
async function removeTemporaries(directory: string): Promise<void> {
  for (const fileName of (await readdir(directory)).filter((name) => temporaryName.test(name))) {
    await ignoringErrors(() => removeTemporary(join(directory, fileName)));
  }
}

/** Removes an image with a manifest of ours that nobody holds. */
async function removeTemporary(path: string): Promise<void> {
  await using file = await openImage(path, { noFollow: true });
  if (file.manifest && tryLock(file.fd, 'exclusive')) await unlink(path);
}

/** Makes what was created, renamed or unlinked in a directory durable. */
export async function syncDirectory(path: string): Promise<void> {
  const fd = await openFile(path, constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    await syncFile(fd);
  } finally {
    await closeFile(fd);
  }
}

/** Renames without replacing anything, durably, or not at all. EEXIST where the new name is taken. */
export async function renameDurably(from: string, to: string): Promise<void> {
  await native().renameNoReplace(from, to);
  try {
    await syncDirectory(dirname(to));
    if (dirname(from) !== dirname(to)) await syncDirectory(dirname(from));
  } catch (error) {
    await ignoringErrors(() => native().renameNoReplace(to, from));
    throw error;
  }
}

/** For what is tidied up, and what is taken back where a disk fails: the first error is told. */
async function ignoringErrors(body: () => Promise<unknown>): Promise<void> {
  try {
    await body();
  } catch {
    // It stays as it is.
  }
}
