import { statSync } from 'node:fs';
import { resolve } from 'node:path';
import { LoopboxError } from '../errors';
import type { Chain } from '../image/chain';
import type { ImageFile } from '../image/image-file';
import { attachLoop, type LoopDevice } from '../loop/attach-loop';
import { run } from '../process';
import type { Warn } from '../progress';
import { claimImage } from './disk';
import { keepStateOfOthers } from './keep-state';
import { openChain } from './open-chain';
import { serveSnapshot } from './serve-snapshot';
import { findSnapshot } from './snapshot-files';
import { requireSnapshotArgument } from './snapshot-names';
import type { Store } from './store';
import { type Work, workOn } from './work';

/**
 * Mounts a snapshot read-only on a directory of the host. No process of this command stays: the mount holds the loop device, and that the
 * file, or the storage server that the snapshot's chain has for itself, and the locks; a plain umount lets go of all.
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
  await using chain = await openToLook(store, work, { path, label: argument }, options.signal);
  await using loop =
    chain.layers.length > 1
      ? await serveSnapshot(store, chain, argument, options.warn)
      : await attachReadOnly(chain.image, argument, options);
  // What a container has made of its own disk must not act on the host.
  await run('mount', ['-t', 'ext4', '-o', 'ro,nodev,nosuid', loop.path, place], { signal: options.signal });
}

/** A snapshot may stand on the present of its container, which then gets another one: its next start must not wait for a umount. */
async function openToLook(
  store: Store,
  { target, held }: Work,
  place: { path: string; label: string },
  signal?: AbortSignal,
): Promise<Chain> {
  const chain = await openChain(store, place, { signal, held });
  if (chain.layers.every(({ path }) => path !== target.path)) return chain;
  await chain.close();
  await keepStateOfOthers(store, target, { signal, held });
  return await openChain(store, place, { signal, held });
}

async function attachReadOnly(image: ImageFile, label: string, { warn }: { warn: Warn }): Promise<LoopDevice> {
  await claimImage(image, 'shared');
  return await attachLoop({
    fd: image.fd,
    name: label,
    sizeLimitBytes: image.sizeBytes,
    blockSize: image.superblock.blockSize >= 4096 ? 4096 : 512,
    readOnly: true,
    // What is read of it others may read, too: through the host's page cache.
    directIo: false,
    warn,
  });
}
