import { explain } from '../errors';
import { type NativeEntry, native } from '../native';
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
    const path = entries[(error as { entry?: number }).entry ?? -1]?.path;
    throw explain(error, path === undefined ? 'extract the archive' : `extract "${path}"`, noSpaceHint(error));
  }
}

function noSpaceHint(error: unknown): { hint?: string } {
  return (error as NodeJS.ErrnoException).code === 'ENOSPC' ? { hint: 'choose a larger --size' } : {};
}
