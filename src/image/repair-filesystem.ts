import { LoopboxError } from '../errors';
import { findProblems, runE2fsck } from './check-filesystem';
import { type Finding, losesData, parseFindings } from './e2fsck-output';
import { type ListedFile, listFiles } from './list-files';
import { readSuperblock } from './superblock';

/** A file that a repair did not leave as it was. */
export interface LostFile {
  path: string;
  /** `moved`: it is in lost+found now; `changed`: its length or its kind is another; `found`: in lost+found, of which no name is known. */
  what: 'gone' | 'moved' | 'changed' | 'found';
  /** Where it is now. */
  to?: string;
}

export interface Repair {
  /** All that was put right, in e2fsck's words; empty where the file system was clean. */
  repaired: string[];
  /** Those of it that may have thrown data away. */
  dropped: string[];
  lost: LostFile[];
}

/** Each pass of e2fsck may find what the one before uncovered. */
const maxPasses = 5;

/**
 * `e2fsck -fy` on a copy that no one else knows, and what came of it. The caller keeps what was before: `dropped` and `lost` are told
 * as a success of nobody. Throws CORRUPT where e2fsck can't make it clean. `directory` as of `listFiles`.
 */
export async function repairFileSystem(fd: number, label: string, directory: string, signal?: AbortSignal): Promise<Repair> {
  const findings: Finding[] = [];
  // The journal first: what it takes away is no loss.
  if ((await readSuperblock(fd))?.needsRecovery) {
    findings.push(...parseFindings((await runE2fsck(fd, ['-E', 'journal_only', '-y'], signal)).stdout));
  }
  const before = await listFiles(fd, directory, signal);
  for (let pass = 0; (await findProblems(fd, signal)).length > 0; pass++) {
    if (pass === maxPasses) {
      throw new LoopboxError('ERR_LOOPBOX_CORRUPT', `Cannot repair "${label}": e2fsck does not get it clean`, {
        hint: `e2fsck -fn ${label}`,
      });
    }
    findings.push(...parseFindings((await runE2fsck(fd, ['-f', '-y'], signal)).stdout));
  }
  const lost = findings.length > 0 ? lostFiles(before, await listFiles(fd, directory, signal)) : [];
  const words = findings.map((finding) => withPaths(finding, before));
  return {
    repaired: words,
    dropped: words.filter((_, index) => losesData(findings[index] as Finding)),
    lost,
  };
}

/** e2fsck speaks of inodes, people of files. */
function withPaths({ text }: Finding, files: ListedFile[]): string {
  const inode = /\b[Ii]node (\d+)\b/.exec(text)?.[1];
  const path = inode && files.find((file) => file.inode === Number(inode))?.path;
  return path && !text.includes(path) ? `${text} (${path})` : text;
}

/** What a repair did to the files that were there. What lies in a directory that was moved as a whole goes with it. */
export function lostFiles(before: ListedFile[], after: ListedFile[]): LostFile[] {
  const keyOf = ({ path, inode }: ListedFile) => `${inode}${path}`;
  const then = new Set(before.map(keyOf));
  const now = new Map(after.map((file) => [keyOf(file), file]));
  const fresh = after.filter((file) => !then.has(keyOf(file)));
  const newPlaces = new Map(fresh.map(({ inode, path }) => [inode, path]));
  const moved = new Map<string, string>();
  const lost: LostFile[] = [];
  for (const file of before) {
    const { path } = file;
    const same = now.get(keyOf(file));
    const to = same ? undefined : newPlaces.get(file.inode);
    if (same && !isAsBefore(file, same)) lost.push({ path, what: 'changed' });
    if (!same && to === undefined) lost.push({ path, what: 'gone' });
    if (to === undefined) continue;
    moved.set(path, to);
    const name = path.lastIndexOf('/');
    if (to !== `${moved.get(path.slice(0, name))}${path.slice(name)}`) lost.push({ path, what: 'moved', to });
  }
  const explained = new Set(moved.values());
  const found = fresh.filter(({ path }) => /^\/lost\+found\/[^/]*$/.test(path) && !explained.has(path));
  return [...lost, ...found.map(({ path }) => ({ path, what: 'found' as const }))];
}

function isAsBefore(before: ListedFile, after: ListedFile): boolean {
  return after.sizeBytes === before.sizeBytes && typeOf(after) === typeOf(before);
}

function typeOf({ mode }: ListedFile): number {
  return mode & 0o170000;
}
