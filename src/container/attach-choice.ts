import { existsSync } from 'node:fs';
import { release } from 'node:os';
import { isSystemError, LoopboxError } from '../errors';
import type { Chain } from '../image/chain';
import type { ImageFile } from '../image/image-file';
import type { LayerFile } from '../image/layer-file';
import type { Config } from '../image/manifest';
import { canReflink } from './reflink';
import type { Store } from './store';

/** How a disk appears as a loop device: the kernel's own on the raw image, or one on the file that a storage server presents. */
export type Attach = 'direct' | 'stack';

/** What `auto` means on a host, and why. */
export interface AttachDefault {
  attach: Attach;
  reason: string;
}

/** What is chosen for: a container of the store, which has a name, or a FILE; with the config of its file unless told. */
export interface AttachContext {
  name?: string | undefined;
  config?: Config;
}

/**
 * How a present is attached: a delta by the storage server, always; an image as its config says. Where that says nothing, one of the store as is best
 * on this host, and directly whatever the server does not improve or can't serve: a FILE, one without a manifest, a file system of small blocks.
 */
export async function chooseAttach(store: Store, top: LayerFile, context: AttachContext): Promise<Attach> {
  if (top.kind === 'delta') return 'stack';
  const config = context.config ?? top.manifest?.config;
  if (config?.attach === 'direct' || config?.attach === 'stack') return config.attach;
  if (!config || context.name === undefined || !isServable(top)) return 'direct';
  return (await attachDefault(store)).attach;
}

/** Whether the storage server, whose device has blocks of 4096 bytes, can serve a file system. */
export function isServable({ superblock }: Pick<ImageFile, 'superblock'>): boolean {
  return superblock.blockSize >= 4096;
}

/** NOT_SUPPORTED where the server can't serve what a chain holds. */
export function requireServable({ image, top }: Chain, hint: string): void {
  if (isServable(image)) return;
  const { blockSize } = image.superblock;
  throw new LoopboxError(
    'ERR_LOOPBOX_NOT_SUPPORTED',
    `Cannot attach "${top.label}" by the storage server: its file system has ${blockSize}-byte blocks`,
    { hint },
  );
}

/**
 * The storage server, where a host has no reflinks: only with it are containers snapshotted while they run. Not where the death of a server's worker
 * would be the end of the disk.
 */
export async function attachDefault(store: Store): Promise<AttachDefault> {
  const kernel = release();
  if (!repeatsRequests(kernel))
    return { attach: 'direct', reason: `Linux ${kernel} is older than 6.9: it would lose the requests of a storage server that dies` };
  if (!existsSync('/dev/fuse')) return { attach: 'direct', reason: 'there is no /dev/fuse' };
  return (await hasReflinks(store)) ? { attach: 'direct', reason: 'reflinks' } : { attach: 'stack', reason: 'no reflinks' };
}

/** FUSE_NOTIFY_RESEND is from Linux 6.9. */
function repeatsRequests(kernel: string): boolean {
  const [major = 0, minor = 0] = kernel.split('.').map((part) => Number.parseInt(part, 10));
  return major > 6 || (major === 6 && minor >= 9);
}

/** Whether a copy in the store would share blocks. Where there is no room to try it, nothing could be shared either. */
export async function hasReflinks(store: Store): Promise<boolean> {
  try {
    return await canReflink(store.containersDirectory);
  } catch (error) {
    if (isSystemError(error, 'ENOSPC', 'EDQUOT', 'EOPNOTSUPP')) return false;
    throw error;
  }
}
