import { native } from '../native';
import { run } from '../process';
import { requireWorkingDisk } from './check-filesystem';
import { closeFile, writeAt } from './file-io';

export interface ListedFile {
  path: string;
  inode: number;
  /** With the type, as in struct stat. */
  mode: number;
  /** 0 for a directory. */
  sizeBytes: number;
}

const rootInode = 2;
const isDirectory = ({ mode }: ListedFile) => (mode & 0o170000) === 0o040000;
/** `ls -p`: /inode/mode/uid/gid/name/size/, where a name may hold anything but a slash. */
const entryPattern = /^\/(\d+)\/(\d{6})\/-?\d+\/-?\d+\/([^/]*)\/(\d*)\/$/gm;

/**
 * Every name in an ext4 file system at rest, read by debugfs, without a mount: also of one that is damaged, as far as it can be
 * read. `directory` is one that takes files without a name, for what debugfs is to do.
 */
export async function listFiles(fd: number, directory: string, signal?: AbortSignal): Promise<ListedFile[]> {
  const files: ListedFile[] = [];
  const seen = new Set([rootInode]);
  let level = [{ path: '', inode: rootInode }];
  while (level.length > 0) {
    const next: ListedFile[] = [];
    const listings = await listDirectories(fd, directory, level, signal);
    for (const [index, { path }] of level.entries()) {
      for (const [, inode, mode, name = '', size] of (listings[index] ?? '').matchAll(entryPattern)) {
        if (name === '' || name === '.' || name === '..') continue;
        const file = { path: `${path}/${name}`, inode: Number(inode), mode: Number.parseInt(mode ?? '0', 8), sizeBytes: Number(size) };
        if (file.inode === 0) continue;
        files.push(file);
        // A damaged file system may have loops.
        if (isDirectory(file) && !seen.has(file.inode)) next.push(file);
        if (isDirectory(file)) seen.add(file.inode);
      }
    }
    level = next;
  }
  return files;
}

/** What debugfs prints for each of the directories. */
async function listDirectories(fd: number, directory: string, level: { inode: number }[], signal?: AbortSignal): Promise<string[]> {
  const commands = await native().openTemporary(directory);
  try {
    await writeAt(commands, 0, Buffer.from(level.map(({ inode }) => `ls -p <${inode}>\n`).join('')));
    const { stdout, stderr } = await run('debugfs', ['-c', '-n', '-f', '/dev/fd/4', '/dev/fd/3'], { fds: [fd, commands], signal });
    // It goes on without what it can't read.
    requireWorkingDisk('debugfs', stderr);
    return stdout.split(/^debugfs: ls -p <\d+>\n/m).slice(1);
  } finally {
    await closeFile(commands);
  }
}
