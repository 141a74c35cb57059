import { describeErrno, type ErrorCode, explain, isSystemError, LoopboxError, type SystemError } from '../errors';
import { type NativeEntry, native } from '../native';
import { shortName } from '../printable';
import { KiB } from '../units';
import type { Mount } from './mount-image';

const directoriesPerBatch = 1024;

/**
 * Makes archive entries inside a mount, while the next batch is being read. What is made in a directory changes its time, so all
 * directories' times are set once more at the end. Throws at the first entry that fails, with its name; later batches are not read.
 */
export async function extract(mount: Mount, batches: AsyncIterable<NativeEntry[]>): Promise<void> {
  const directories = new Map<string, NativeEntry>();
  let making = Promise.resolve();
  try {
    for await (const batch of batches) {
      for (const entry of batch) if (entry.type === 'directory') directories.set(entry.path, { ...entry, append: true });
      await making;
      making = makeEntries(mount, batch);
      making.catch(() => {}); // awaited below
    }
  } catch (error) {
    // The mount is in use until then. Should the reader have failed, its error is the one that counts.
    await making.catch(() => {});
    throw error;
  }
  await making;
  const all = [...directories.values()];
  for (let at = 0; at < all.length; at += directoriesPerBatch) {
    await makeEntries(mount, all.slice(at, at + directoriesPerBatch));
  }
}

async function makeEntries(mount: Mount, entries: NativeEntry[]): Promise<void> {
  try {
    await native().extractEntries(mount.fd, entries);
  } catch (error) {
    throw describeFailure(error, entries[(error as { entry?: number }).entry ?? -1]);
  }
}

/** What an archive can't mean: a file below a file, a hard link to nothing or to a directory, a directory that is not empty replaced by a file. */
const contradictions = ['ENOENT', 'ENOTDIR', 'EISDIR', 'ENOTEMPTY', 'EEXIST', 'ELOOP', 'EXDEV', 'EINVAL', 'EBUSY'];
/** What ext4 can't hold: names beyond 255 bytes, paths beyond 4095, too many hard links, attributes on what has none. */
const unkeepable = ['ENAMETOOLONG', 'EMLINK', 'EOPNOTSUPP', 'E2BIG', 'ERANGE', 'EOVERFLOW'];

function describeFailure(error: unknown, entry: NativeEntry | undefined): unknown {
  if (!entry || !isSystemError(error)) return explain(error, 'extract the archive');
  const action = `extract "${shortName(entry.path)}"`;
  const refuse = (code: ErrorCode, state: string) => new LoopboxError(code, `Cannot ${action}: ${state}`, { cause: error });
  if (unkeepable.includes(error.code) || isAboutAttributes(error, entry)) {
    return refuse('ERR_LOOPBOX_NOT_SUPPORTED', `it can't be kept whole: ${describeErrno(error)}`);
  }
  if (contradictions.includes(error.code) || (error.code === 'EPERM' && error.syscall === 'linkat')) {
    return refuse('ERR_LOOPBOX_CORRUPT', `the archive contradicts itself: ${describeErrno(error)}`);
  }
  return explain(error, action, error.code === 'ENOSPC' ? { hint: 'choose a larger --size' } : {});
}

/** ext4 keeps an inode's attributes in one block, and says of more that there is no space. */
function isAboutAttributes(error: SystemError, { xattrs = [] }: NativeEntry): boolean {
  if (!/^f?setxattr$/.test(error.syscall)) return false;
  const bytes = xattrs.reduce((sum, { name, value }) => sum + name.length + value.length, 0);
  return ['EPERM', 'EINVAL'].includes(error.code) || (error.code === 'ENOSPC' && bytes > 2 * KiB);
}
