import { lstatSync } from 'node:fs';
import { basename, dirname } from 'node:path';
import { parseFileName } from './file-names';
import type { Found } from './state-index';

/** What each change of a file or its name shows in. */
interface Stamp {
  device: bigint;
  inode: bigint;
  sizeBytes: bigint;
  /** Nanoseconds. */
  changed: bigint;
}

/** The kernel's clock for file times stands still for up to 10 ms: a file that was changed just now may change again and not show it. */
const grainNs = 100_000_000n;

/**
 * What was read of a container's own files under its verb lock, which only its holder writes to: read once, a file is known for as long as the lock
 * is held, unless something of it changes. Others' files are read anew each time.
 */
export class HeldFiles {
  readonly #known = new Map<string, { stamp: Stamp; found: Found }>();

  constructor(
    private readonly directory: string,
    private readonly name: string,
  ) {}

  /** What `read` says of a file; where that is known and not wanted `anew`, it is not asked again. */
  async look(path: string, read: () => Promise<Found>, anew: boolean): Promise<Found> {
    if (dirname(path) !== this.directory || parseFileName(basename(path))?.name !== this.name) return read();
    const known = anew ? undefined : this.#known.get(path);
    const stamp = stampOf(path);
    if (known && stamp && isSameStamp(known.stamp, stamp)) return known.found;
    const settled = BigInt(Date.now()) * 1_000_000n - grainNs;
    const found = await read();
    if (stamp && found !== null && stamp.changed < settled) this.#known.set(path, { stamp, found });
    else this.#known.delete(path);
    return found;
  }
}

function stampOf(path: string): Stamp | undefined {
  const status = lstatSync(path, { bigint: true, throwIfNoEntry: false });
  return status && { device: status.dev, inode: status.ino, sizeBytes: status.size, changed: status.ctimeNs };
}

function isSameStamp(a: Stamp, b: Stamp): boolean {
  return a.device === b.device && a.inode === b.inode && a.sizeBytes === b.sizeBytes && a.changed === b.changed;
}
