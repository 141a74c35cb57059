import { closeSync, constants, fstatSync } from 'node:fs';
import { explain, isSystemError, LoopboxError } from '../errors';
import { closeFile, openFile, syncFile } from './file-io';
import type { FoundManifest } from './find-manifest';
import type { Manifest } from './manifest';

export interface OpenOptions {
  write?: boolean;
  /** What messages call the file; the path unless told. */
  label?: string;
  /** Refuses a symbolic link: for a file that was found, not named by the user. */
  noFollow?: boolean;
  /** Makes durable what anybody has written to it, before it is looked at. */
  sync?: boolean;
}

/** An open file at rest, image or delta. Its descriptor's open file description is what locks and the loop device are given. */
export interface FileAtRest extends AsyncDisposable {
  readonly fd: number;
  readonly path: string;
  readonly label: string;
  readonly device: bigint;
  readonly inode: bigint;
  /** How many names the file has. */
  readonly links: number;
  readonly fileSizeBytes: number;
  /** V: where the disk ends. */
  readonly sizeBytes: number;
  readonly manifest: Manifest | undefined;
  /** Keys of the manifest that mean nothing to this version and are not acted on. */
  readonly ignored: readonly string[];
  /** Idempotent. */
  close(): Promise<void>;
}

/** A regular file, open, not yet judged. */
export type RegularFile = Pick<FileAtRest, 'fd' | 'path' | 'label' | 'device' | 'inode' | 'links' | 'fileSizeBytes'>;

/** What the files at rest have in common. `found` changes with each manifest that is written. */
export abstract class OpenedFile implements FileAtRest {
  readonly fd: number;
  readonly path: string;
  readonly label: string;
  readonly device: bigint;
  readonly inode: bigint;
  readonly links: number;
  readonly fileSizeBytes: number;
  #isClosed = false;

  constructor(
    file: RegularFile,
    readonly sizeBytes: number,
    public found: FoundManifest | undefined,
    /** Where its slots are. */
    readonly manifestOffset: number,
  ) {
    this.fd = file.fd;
    this.path = file.path;
    this.label = file.label;
    this.device = file.device;
    this.inode = file.inode;
    this.links = file.links;
    this.fileSizeBytes = file.fileSizeBytes;
  }

  get manifest(): Manifest | undefined {
    return this.found?.manifest;
  }

  get ignored(): readonly string[] {
    return this.found?.ignored ?? [];
  }

  close(): Promise<void> {
    // At once: what is only read has nothing to be waited for, and the way through Node's threads takes longer.
    if (!this.#isClosed) closeSync(this.fd);
    this.#isClosed = true;
    return Promise.resolve();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

/** Opens a regular file and has it judged; closes it where that fails. */
export async function openAndJudge<T>(path: string, options: OpenOptions, judge: (file: RegularFile) => Promise<T>): Promise<T> {
  const label = options.label ?? path;
  const fd = await openForUse(path, label, options);
  try {
    const status = fstatSync(fd, { bigint: true });
    if (!status.isFile()) throw notRegular(path, label);
    if (options.sync) await syncFile(fd);
    const { dev, ino, nlink, size } = status;
    return await judge({ fd, path, label, device: dev, inode: ino, links: Number(nlink), fileSizeBytes: Number(size) });
  } catch (error) {
    await closeFile(fd);
    throw explain(error, `open "${label}"`, { path });
  }
}

async function openForUse(path: string, label: string, { write, noFollow }: OpenOptions): Promise<number> {
  try {
    // Never wait for another's lease, nor for a fifo's writer.
    const flags = (write ? constants.O_RDWR : constants.O_RDONLY) | constants.O_NONBLOCK | (noFollow ? constants.O_NOFOLLOW : 0);
    return await openFile(path, flags);
  } catch (error) {
    if (isSystemError(error, 'EISDIR', 'ENXIO') || (noFollow && isSystemError(error, 'ELOOP'))) throw notRegular(path, label);
    if (!isSystemError(error, 'EAGAIN')) throw explain(error, `open "${label}"`, { path });
    throw new LoopboxError('ERR_LOOPBOX_IN_USE', `Cannot open "${label}": another program has reserved it`, { path, cause: error });
  }
}

function notRegular(path: string, label: string): LoopboxError {
  return new LoopboxError('ERR_LOOPBOX_NOT_SUPPORTED', `Cannot open "${label}": it is not a regular file`, { path });
}

export function corrupt(label: string, state: string, hint?: string): LoopboxError {
  return new LoopboxError('ERR_LOOPBOX_CORRUPT', `Cannot open "${label}": ${state}`, { hint });
}
