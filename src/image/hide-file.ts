import { dirname, join } from 'node:path';
import { native } from '../native';
import { formatFileName, freshNumber } from './file-names';
import { type Lease, linksOf } from './merge-context';
import { syncDirectory } from './new-file';
import { type IndexedFile, regularFiles } from './state-index';

/**
 * Gives a file of a container, which is open as `fd` under a lease, the name that promises nothing, durably. Undefined, and it has its
 * name again, where somebody has another name for it or waits to open it. Returns the path that it has then.
 */
export async function hideFile(file: IndexedFile, fd: number, lease: Lease): Promise<string | undefined> {
  const { directory, parsed, path } = file;
  if (!parsed || !(await isOursAlone(fd, lease))) return undefined;
  if (parsed.role === 'fold') return path;
  const number = freshNumber(await regularFiles(directory), parsed.name);
  const hidden = join(directory, formatFileName({ role: 'fold', name: parsed.name, number }));
  await native().renameNoReplace(path, hidden);
  await syncDirectory(directory);
  // Who opened or linked it by its name in between has it still.
  if (await isOursAlone(fd, lease)) return hidden;
  await showFile(hidden, path);
  return undefined;
}

/** Gives a hidden file a name that it had, durably. */
export async function showFile(hidden: string, path: string): Promise<void> {
  if (hidden === path) return;
  await native().renameNoReplace(hidden, path);
  await syncDirectory(dirname(path));
}

/** Whether nobody else can see what is written to a file that is open under a lease: it has no other name, and no one waits to open it. */
export async function isOursAlone(fd: number, lease: Lease): Promise<boolean> {
  return lease.isWhole() && (await linksOf(fd)) === 1;
}
