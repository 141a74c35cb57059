import { constants, renameSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { Descriptor } from '../descriptor';
import { native } from '../native';
import { newUuid } from '../uuid';
import { closeFile, openFile, syncFile } from './file-io';

/** A file in the making, without a name: dropped, or after a crash, nothing of it is left. */
export class NewFile extends Descriptor {
  /** In the directory that it shall be published in. EOPNOTSUPP where the file system knows no files without a name. */
  static async create(directory: string): Promise<NewFile> {
    return new NewFile(await native().openTemporary(directory));
  }

  /** Makes the file durable, then gives it its name, durably. EEXIST where the name is taken: nothing is ever replaced. */
  async publish(path: string): Promise<void> {
    await syncFile(this.fd);
    await native().linkTemporary(this.fd, path);
    await syncDirectory(dirname(path));
  }

  /** As `publish`, but in the place of a file that is there. Only a kill between two calls leaves a `.tmp-…` beside it. */
  async replace(path: string): Promise<void> {
    const temporary = join(dirname(path), `.tmp-${newUuid()}`);
    await syncFile(this.fd);
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

/** Makes what was created, renamed or unlinked in a directory durable. */
export async function syncDirectory(path: string): Promise<void> {
  const fd = await openFile(path, constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    await syncFile(fd);
  } finally {
    await closeFile(fd);
  }
}

/** Renames without replacing anything, durably. EEXIST where the new name is taken. */
export async function renameDurably(from: string, to: string): Promise<void> {
  await native().renameNoReplace(from, to);
  await syncDirectory(dirname(to));
  if (dirname(from) !== dirname(to)) await syncDirectory(dirname(from));
}
