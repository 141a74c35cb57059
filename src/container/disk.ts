import { existsSync, statSync } from 'node:fs';
import { statfs } from 'node:fs/promises';
import { basename } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { explain, LoopboxError } from '../errors';
import { parseFileName } from '../image/file-names';
import type { ImageFile } from '../image/image-file';
import type { LayerFile } from '../image/layer-file';
import { verifySeal } from '../image/seal';
import { readSuperblock } from '../image/superblock';
import { attachLoop, type LoopDevice } from '../loop/attach-loop';
import { attachedTo } from '../loop/find-attached';
import { type StackServer, type StackServerOptions, startStackServer } from '../loop/stack-server';
import { type Mount, mountImage } from '../mount/mount-image';
import type { Warn } from '../progress';
import { MiB } from '../units';
import { type LockKind, tryLock } from './locks';

/** What of an image file is needed to attach it; an ImageFile, or a file in the making. */
export type AttachableFile = Pick<ImageFile, 'fd' | 'sizeBytes'> & { blockSize: number };

export interface DiskOptions {
  /** What losetup shows as the name of the file. */
  name: string;
  warn?: Warn | undefined;
}

/**
 * The inside of an image or a chain: attached as a loop device and mounted as a descriptor, in no namespace. All gone when closed, or with
 * this process.
 */
export class Disk implements AsyncDisposable {
  readonly loop: LoopDevice;
  readonly mount: Mount;
  /** What a chain is served by; it ends by itself, some moments after the loop device. */
  readonly server: Pick<StackServer, 'pid' | 'pidStart'> | undefined;

  private constructor(loop: LoopDevice, mount: Mount, server?: StackServer) {
    this.loop = loop;
    this.mount = mount;
    this.server = server;
  }

  static async attach(file: AttachableFile, options: DiskOptions): Promise<Disk> {
    const loop = await attachLoop({
      fd: file.fd,
      name: options.name,
      sizeLimitBytes: file.sizeBytes,
      // A device block larger than the file system's can't be mounted.
      blockSize: file.blockSize >= 4096 ? 4096 : 512,
      readOnly: false,
      // Also to fill one: through the host's page cache its writes would wait for the sync at the end, all at once.
      directIo: true,
      warn: options.warn ?? (() => {}),
    });
    return await Disk.#mount(loop);
  }

  /** Attaches a chain by a storage server of its own. */
  static async serve(options: StackServerOptions): Promise<Disk> {
    const server = await startStackServer(options);
    return await Disk.#mount(server.loop, server);
  }

  static async #mount(loop: LoopDevice, server?: StackServer): Promise<Disk> {
    try {
      return new Disk(loop, await mountImage(loop.path), server);
    } catch (error) {
      const isServed = server === undefined || hasFiles(server.pid);
      await loop.close();
      // Of a disk that is gone the kernel says anything, also that its file system is damaged.
      throw isServed ? error : serverEnded(loop.path, error);
    }
  }

  async close(): Promise<void> {
    await this.mount.close();
    await this.loop.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

/** Whether a process has its descriptors still: one that ends lets go of them before it counts as ended. */
function hasFiles(pid: number): boolean {
  return existsSync(`/proc/${pid}/fd/0`);
}

function serverEnded(device: string, cause: unknown): LoopboxError {
  return new LoopboxError('ERR_LOOPBOX_FAILED', `Cannot mount "${device}": its storage server ended too early`, { cause });
}

/**
 * Works on the inside of a file in the making, and unmounts it; on return the kernel has written all of it
 * to the file. Where the host was full meanwhile, ERR_LOOPBOX_NO_SPACE, whatever error the file system inside made of it.
 */
export function fillDisk<T>(file: AttachableFile, name: string, body: (disk: Disk) => Promise<T>): Promise<T> {
  return whileFilling(file.fd, name, async () => {
    await using disk = await Disk.attach(file, { name });
    const result = await body(disk);
    await disk.mount.sync();
    await disk.close();
    const superblock = await readSuperblock(file.fd);
    if (superblock && !superblock.needsRecovery && !superblock.hasErrors) return result;
    throw new LoopboxError('ERR_LOOPBOX_FAILED', `Cannot fill "${name}": the host lost writes to its file system`, { hint: 'dmesg' });
  });
}

/** Writes to a disk in a file. Where the host is full when that fails, ERR_LOOPBOX_NO_SPACE, whatever error it came to. */
export async function whileFilling<T>(fd: number, name: string, body: () => Promise<T>): Promise<T> {
  try {
    return await body();
  } catch (error) {
    if (await isHostFull(fd)) throw hostFull(name, error);
    throw explain(error, `fill "${name}"`);
  }
}

/** A host without space fails the writes of a loop device with EIO, and the file system inside goes read-only. */
async function isHostFull(fd: number): Promise<boolean> {
  const host = await statfs(`/proc/self/fd/${fd}`);
  return host.bavail * host.bsize < 4 * MiB;
}

function hostFull(name: string, cause: unknown): LoopboxError {
  return new LoopboxError('ERR_LOOPBOX_NO_SPACE', `Cannot fill "${name}": the host's file system is full`, { hint: 'loopbox df', cause });
}

/**
 * Claims an open image or delta, to attach it (exclusive) or to copy it (shared), for as long as its descriptor is open: takes the attachment
 * lock, and makes sure that nothing goes round it; `fd` is another descriptor of the file that is to hold the lock. ERR_LOOPBOX_IN_USE where the path leads to another file by now, or where a loop
 * device that stock tools made may write to it (they know nothing of the lock); ERR_LOOPBOX_CORRUPT where a sealed image was changed.
 */
export async function claimImage(image: LayerFile, kind: LockKind, fd = image.fd): Promise<void> {
  if (kind === 'shared') await takeSharedLock(image, fd);
  else await takeAttachmentLock({ fd, path: image.path }, image.label);
  // What never had a name is nothing that a path leads to.
  const { dev, ino } = image.links === 0 ? { dev: image.device, ino: image.inode } : statSync(image.path, { bigint: true });
  if (dev !== image.device || ino !== image.inode) throw inUse(image, 'it was replaced meanwhile', 'try again');
  await verifySeal(image);
  // A sealed file may be copied while others look into it.
  if (kind === 'shared' && image.manifest?.sealed) return;
  for (const deadline = Date.now() + detachmentPatienceMs; ; await sleep(10)) {
    const [device] = await attachedTo(image);
    if (!device) return;
    if (Date.now() >= deadline) throw inUse(image, `it is attached as ${device}`, `umount ${device}, or losetup -d ${device}`);
  }
}

/** A loop device is cleared some moments after its last user has gone, on a busy machine. */
const detachmentPatienceMs = 500;

function inUse(image: LayerFile, state: string, hint: string): LoopboxError {
  return new LoopboxError('ERR_LOOPBOX_IN_USE', `Cannot open "${image.label}": ${state}`, { hint, path: image.path });
}

/**
 * The attachment lock of who only reads. A snapshot that a running container's server holds exclusively will do without: it was the top when that
 * began, locks are never converted, and it is sealed for good, as its name says. A sealed present or template may yet be opened for writing.
 */
export async function takeSharedLock({ fd: own, path, label, manifest }: LayerFile, fd = own): Promise<void> {
  const role = parseFileName(basename(path))?.role;
  // What is being folded into changes under a lease only, which is not to be had while it is open here.
  const isFrozen = role === 'fold' || (manifest?.sealed !== undefined && (role === 'snapshot' || role === 'nameless'));
  if (isFrozen) tryLock(fd, 'shared');
  else await takeAttachmentLock({ fd, path }, label, 'shared');
}

/**
 * The kernel lets go of the file a moment after the loop device is cleared; after the end of a storage server, whose ring it takes apart then,
 * that may be a while on a busy machine.
 */
const attachmentPatienceMs = 2000;

/**
 * The attachment lock: flock on the image's own descriptor, never converted. Given to the loop device with the descriptor,
 * it lives as long as the attachment. Throws ERR_LOOPBOX_IN_USE where another attachment or copy holds it.
 */
export async function takeAttachmentLock(
  image: Pick<ImageFile, 'fd' | 'path'>,
  label: string,
  kind: LockKind = 'exclusive',
): Promise<void> {
  for (const deadline = Date.now() + attachmentPatienceMs; !tryLock(image.fd, kind); await sleep(5)) {
    if (Date.now() < deadline) continue;
    throw new LoopboxError('ERR_LOOPBOX_IN_USE', `Cannot open "${label}": its file is in use`, { hint: 'loopbox ps', path: image.path });
  }
}
