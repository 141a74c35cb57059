import { statSync } from 'node:fs';
import { resolve } from 'node:path';
import { LoopboxError } from '../errors';
import type { ImageFile } from '../image/image-file';
import { attachLoop } from '../loop/attach-loop';
import { run } from '../process';
import type { Warn } from '../progress';
import { claimImage } from './disk';
import { openChain } from './open-chain';
import { findSnapshot } from './snapshot-files';
import { requireSnapshotArgument } from './snapshot-names';
import type { Store } from './store';
import { workOn } from './work';

/**
 * Mounts a snapshot read-only on a directory of the host. Nothing of ours stays: the mount holds the loop device, and that the file and
 * the lock on it; a plain umount lets go of all.
 */
export async function mountSnapshot(
  store: Store,
  argument: string,
  directory: string,
  options: { warn: Warn; signal?: AbortSignal },
): Promise<void> {
  const { container, snapshot } = requireSnapshotArgument(argument);
  const place = resolve(directory);
  if (!statSync(place, { throwIfNoEntry: false })?.isDirectory()) {
    throw new LoopboxError('ERR_LOOPBOX_NOT_FOUND', `Cannot mount "${argument}": "${directory}" is not a directory`, {
      hint: `mkdir -p ${directory}`,
    });
  }
  await using work = await workOn(store, container, 'mount a snapshot of', options.signal);
  const { path } = findSnapshot(work.files, container, snapshot);
  await using chain = await openChain(store, { path, label: argument }, { signal: options.signal });
  if (chain.layers.length > 1) {
    throw new LoopboxError('ERR_LOOPBOX_NOT_SUPPORTED', `Cannot mount "${argument}": it is a chain of ${chain.layers.length} files`, {
      hint: `loopbox clone ${argument} NEW-NAME`,
    });
  }
  await mountReadOnly(chain.image, argument, place, options);
}

async function mountReadOnly(
  image: ImageFile,
  label: string,
  place: string,
  { warn, signal }: { warn: Warn; signal?: AbortSignal },
): Promise<void> {
  await claimImage(image, 'shared');
  await using loop = await attachLoop({
    fd: image.fd,
    name: label,
    sizeLimitBytes: image.sizeBytes,
    blockSize: image.superblock.blockSize >= 4096 ? 4096 : 512,
    readOnly: true,
    // What is read of it others may read, too: through the host's page cache.
    directIo: false,
    warn,
  });
  // What a container has made of its own disk must not act on the host.
  await run('mount', ['-t', 'ext4', '-o', 'ro,nodev,nosuid', loop.path, place], { signal });
}
