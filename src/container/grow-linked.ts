import { setTimeout as sleep } from 'node:timers/promises';
import type { Chain } from '../image/chain';
import type { NewDelta } from '../image/delta-file';
import { growFileSystemOfDevice } from '../image/grow-filesystem';
import { StackControl } from '../loop/stack-control';
import { mountImage } from '../mount/mount-image';
import { isAlive } from '../runtime/processes';
import { whileFilling } from './disk';
import { serveUnnamed } from './serve-snapshot';
import type { Store } from './store';

/**
 * Grows the file system of a chain, whose files the caller has locked, to the size of a delta in the making on it, which gets what that writes; durable
 * on return, and nobody has the delta open any more. Whoever is killed meanwhile, nothing is left. ERR_LOOPBOX_NO_SPACE where the host is full.
 */
export async function growLinked(store: Store, chain: Chain, delta: NewDelta, name: string, signal?: AbortSignal): Promise<void> {
  const { loop, pid, pidStart, controlPath } = await serveUnnamed(store, chain, delta, name, () => {});
  try {
    await whileFilling(delta.file.fd, name, async () => {
      // On a full host it fails: nobody could tell who waits that there is room.
      await new StackControl(controlPath, name).release();
      await growFileSystemOfDevice(loop.fd, delta.manifest.sizeBytes, signal);
      // resize2fs leaves the superblock's count of ext4's own blocks as it was, which `df` reads; the kernel sets it right.
      await (await mountImage(loop.path)).close();
    });
  } finally {
    await loop.close();
    while (isAlive({ pid, start: pidStart })) await sleep(pollMs);
  }
}

const pollMs = 5;
