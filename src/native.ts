import { createRequire } from 'node:module';
import { join } from 'node:path';
import { packageDirectory } from './package';

/**
 * The addon's calls, thin over system calls of the same name. All that may block run on libuv's pool and reject with
 * a `SystemError`, which names the file of a descriptor, too. Descriptors are plain numbers, close-on-exec, and closed with `fs.close`.
 */
export interface Native {
  // loop.cc: loop(4), linux/loop.h

  /**
   * Takes a free loop device and configures it in one step (LOOP_CONFIGURE, AUTOCLEAR): the device is cleared by the kernel
   * with its last close. Retries while others take the device it was offered (EBUSY, ENXIO), for at most 30 s, then EBUSY;
   * ENOENT where /dev has no node of the device after 2 s.
   * `name` is what losetup shows (63 bytes at most). Returns the open device.
   */
  loopAttach(options: {
    backingFd: number;
    name: string;
    sizeLimitBytes: number;
    blockSize: number;
    directIo: boolean;
    readOnly: boolean;
  }): Promise<{ fd: number; index: number }>;
  /** LOOP_GET_STATUS64: device and inode, in turn, of the files that the loop devices with these numbers are attached to; zeroes where to none. */
  loopBackings(indexes: number[]): Promise<BigUint64Array>;
  /** LOOP_SET_STATUS64 with another size limit, at most the file's size; all else stays. The device may be in use. */
  loopResize(fd: number, sizeLimitBytes: number): Promise<void>;

  // files.cc

  /** FICLONE: makes `destination` share all blocks of `source`. EOPNOTSUPP, EXDEV or EINVAL where the host can't. */
  reflink(destination: number, source: number): Promise<void>;
  /**
   * FIEMAP and FICLONERANGE: has `destination` share some hundred extents of `source` from `offset` on, which takes a moment. Returns where to go
   * on, or null where that was all, or the host can't.
   */
  shareSome(destination: number, source: number, offset: number): Promise<number | null>;
  /** FIEMAP: how many of the bytes that the host has allocated for the file others share. */
  sharedBytes(fd: number): Promise<number>;
  /** The first data at or after `offset` (SEEK_DATA, SEEK_HOLE), or null where only a hole follows. */
  nextData(fd: number, offset: number): Promise<{ start: number; end: number } | null>;
  /** fallocate(PUNCH_HOLE | KEEP_SIZE). */
  punchHole(fd: number, offset: number, length: number): Promise<void>;
  /** fallocate: makes the file that long at least, with host space taken for the whole range. EOPNOTSUPP where the host can't. */
  allocateSpace(fd: number, offset: number, length: number): Promise<void>;
  /** O_TMPFILE in `directory`, read-write, mode 0600: a file without a name, gone with its last descriptor. */
  openTemporary(directory: string): Promise<number>;
  /** linkat of an `openTemporary` descriptor to a name; EEXIST where that is taken. */
  linkTemporary(fd: number, path: string): Promise<void>;
  /** renameat2(RENAME_NOREPLACE). */
  renameNoReplace(from: string, to: string): Promise<void>;
  /** syncfs of the file system that `fd` lives on; reports write errors since its opening. */
  syncFileSystem(fd: number): Promise<void>;

  // views.cc

  /** All data from `start` to `end` (SEEK_DATA, SEEK_HOLE): starts and ends in turn, clipped to the range. */
  dataRanges(fd: number, start: number, end: number): Promise<Float64Array>;
  /**
   * Copies ranges, given as starts and ends in turn in `destination`; in `source` they lie `shift` bytes further on. With `share` their blocks are
   * shared where the host can (FICLONERANGE), holes included; else copy_file_range, or read and write. Starts the writeback of large
   * ranges. Returns how many bytes are shared.
   */
  copyRanges(source: number, destination: number, shift: number, ranges: Float64Array, share: boolean): Promise<number>;
  /** sync_file_range: starts writeback, best effort. */
  startWriteback(fd: number, offset: number, length: number): Promise<void>;

  // stack.cc: merges of a chain's files (native/stack/merge.h), which nobody else may write to meanwhile

  /**
   * A batch of an absorb: copies what `source` owns and the delta `destination` lacks, makes it durable, then sets the bits in its map
   * and makes them durable. Holes stay holes. `nextBlock` is where the next batch begins, null when all is done. A batch that
   * failed is done again from the same block.
   */
  stackCopyMissing(batch: { source: StackLayer; destination: StackLayer } & BatchLimits): Promise<MergeBatch>;
  /**
   * A batch of a fold: where there is a `keep`, the blocks of `image` that `source` owns and `keep` lacks go there first, as by
   * `stackCopyMissing`; then what `source` owns goes into `image`, durably. Beyond its V a layer owns all, as zeroes. `block0`, of 4096
   * bytes, is written in place of the one that `source` owns.
   */
  stackFoldBatch(
    batch: { image: StackLayer; source: StackLayer; keep?: StackLayer | undefined; block0?: Buffer | undefined } & BatchLimits,
  ): Promise<MergeBatch>;
  /**
   * F_SETLEASE: a write lease on the open file description, which nobody else may have the file open for, by whatever name. False where
   * somebody has. Who opens the file later waits until the lease is dropped, 45 s at most, or is refused (O_NONBLOCK).
   */
  tryWriteLease(fd: number): boolean;
  /** Idempotent. */
  dropLease(fd: number): void;
  /** Whether the write lease is there and nobody waits for its end. */
  hasWriteLease(fd: number): boolean;
  /** Takes O_DIRECT from the open file description, which others may share, after dropping what the page cache has of the file. */
  useBufferedIo(fd: number): void;
  /** FS_IOC_FSSETXATTR: the host allocates the file's blocks in such steps. For an empty file; false where the host knows no such hint. */
  setExtentSizeHint(fd: number, bytes: number): Promise<boolean>;

  // tree.cc: openat2(2) with RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS below a directory descriptor

  /** Opens with O_NONBLOCK unless O_PATH is given: a fifo in the image must not hold a thread. */
  openInRoot(root: number, path: string, flags: number, mode: number): Promise<number>;
  /** Removes a file or a symlink. */
  removeInRoot(root: number, path: string): Promise<void>;
  /**
   * Creates archive entries below `root`, in order, each with owner, mode, times and extended attributes; missing parents are made
   * (0755, root). An existing non-directory is replaced. Rejects at the first that fails; the error carries `entry`, its index.
   * Contents and values are not copied: leave them alone until it is done.
   */
  extractEntries(root: number, entries: NativeEntry[]): Promise<void>;

  // mounts.cc

  /**
   * fsopen, fsconfig, fsmount of an ext4 file system on a block device, attached nowhere: nodev, noatime, errors=remount-ro.
   * Returns fsmount's own descriptor, on which the mount's life hangs until it is moved somewhere. It is O_PATH: good for
   * openInRoot, extractEntries and move_mount; for syncfs and ioctls open `.` below it.
   */
  mountExt4(device: string): Promise<number>;
  /** EXT4_IOC_SETFSUUID on any descriptor inside the mounted file system that is not O_PATH; `uuid` is 16 bytes. */
  setFileSystemUuid(fd: number, uuid: Uint8Array): Promise<void>;
  /** FITHAW on any descriptor inside the mounted file system that is not O_PATH; EINVAL where it is not frozen. */
  thawFileSystem(fd: number): Promise<void>;

  // control.cc

  /**
   * Sends one packet with copies of `fds` to a SOCK_SEQPACKET socket at a path of any length, over a connection of its own, and returns
   * the one that comes back. Its descriptors are the caller's to close. Rejects with ECONNREFUSED or ENOENT where no one listens,
   * ECONNRESET where the connection ends without a reply, ETIMEDOUT after `timeoutMs`.
   */
  controlCall(path: string, request: string, fds: number[], timeoutMs: number): Promise<{ reply: string; fds: number[] }>;

  // processes.cc

  /** pipe2(O_CLOEXEC): [read end, write end]. Real pipes, which /proc/PID/fd can open (Node's are sockets). */
  pipe(): [number, number];
  /** pidfd_open; throws ESRCH where there is no such process. */
  openPidfd(pid: number): number;
  /** pidfd_send_signal. */
  signalPidfd(pidfd: number, signal: number): void;
}

/** A file of a chain, as merges see it: an `ImageFile` or a `DeltaFile`, or what a server has open. */
export interface StackLayer {
  readonly kind: 'image' | 'delta';
  readonly fd: number;
  readonly sizeBytes: number;
  /** Of a delta. */
  readonly mapOffset?: number;
  readonly dataOffset?: number;
}

export interface BatchLimits {
  fromBlock: number;
  /** About how much is moved at most; a hole counts as a block. */
  maxBytes: number;
}

export interface MergeBatch {
  nextBlock: number | null;
  /** Data that was moved. */
  copiedBytes: number;
}

/** One archive entry, ready to be made. Times are nanoseconds since the epoch. */
export interface NativeEntry {
  path: string;
  type: 'file' | 'directory' | 'symlink' | 'hardlink' | 'character' | 'block' | 'fifo';
  /** Permission bits, set-id bits included. */
  mode: number;
  uid: number;
  gid: number;
  mtimeNs: bigint;
  /** Of a link: its target. */
  target?: string;
  major?: number;
  minor?: number;
  /** Of a file: its whole content; large files come as one entry with `content` and are then appended to. */
  content?: Uint8Array;
  /**
   * Of a file: continues the one of the same path that an earlier entry began. `content` is appended, then owner, mode, extended
   * attributes and times are set again; the attributes must be given again, because a write drops file capabilities.
   * Of a directory: sets nothing but its time, and only where it still is a directory. Made after all else, because every
   * entry in a directory changes its time.
   */
  append?: boolean;
  xattrs?: { name: string; value: Uint8Array }[];
}

let loaded: Native | undefined;

/** The addon, loaded at first use. */
export function native(): Native {
  loaded ??= createRequire(__filename)(join(packageDirectory, 'build', 'loopbox.node')) as Native;
  return loaded;
}
