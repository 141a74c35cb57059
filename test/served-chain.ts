import { constants, existsSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { type FileHandle, open, readdir, readFile, readlink, truncate, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { LoopDevice } from '../src/loop/attach-loop';
import { StackControl } from '../src/loop/stack-control';
import { type ServedLayer, type StackServer, type StackServerOptions, startStackServer } from '../src/loop/stack-server';
import { isAlive } from '../src/runtime/processes';
import { KiB, MiB } from '../src/units';
import { shell } from './execute';
import { attachedLoops } from './loop-devices';
import { cleanUp, temporaryDirectory } from './temporary';
import { withUringSwitch } from './uring-switch';

/** How long after its last user a server may be there. */
export const goneWithinMs = 2000;

const blocksPerMapByte = 8;

/** Where a delta of this size has its map and its data. */
function deltaGeometry(sizeBytes: number): { mapOffset: number; dataOffset: number } {
  const room = Math.ceil((8 * sizeBytes) / (4 * KiB) / blocksPerMapByte / (4 * KiB)) * 4 * KiB;
  return { mapOffset: MiB, dataOffset: Math.ceil((MiB + room) / MiB) * MiB };
}

/** A chain of files without manifests, for the storage server alone: an image with an empty ext4 file system, and empty deltas on it. */
export class ServedChain {
  private constructor(
    readonly directory: string,
    readonly sizeBytes: number,
    readonly paths: string[],
  ) {}

  static async create({ sizeBytes = 64 * MiB, deltas = 1 } = {}): Promise<ServedChain> {
    const directory = await temporaryDirectory();
    const chain = new ServedChain(directory, sizeBytes, [join(directory, 'base.img')]);
    await writeFile(chain.imagePath, '');
    await truncate(chain.imagePath, sizeBytes);
    await shell('mke2fs', '-q', '-F', '-t', 'ext4', '-b', '4096', '-E', 'discard,lazy_itable_init=0', chain.imagePath);
    for (let i = 0; i < deltas; i++) chain.paths.push(await chain.makeDelta(`top-${i}.delta`));
    return chain;
  }

  get imagePath(): string {
    return join(this.directory, 'base.img');
  }

  /** Tells its loop device from others. */
  get label(): string {
    return `served-${basename(this.directory)}`;
  }

  get controlPath(): string {
    return join(this.directory, 'control');
  }

  get logPath(): string {
    return join(this.directory, 'log');
  }

  /** A delta with nothing in it. */
  async makeDelta(name: string): Promise<string> {
    const path = join(this.directory, name);
    await writeFile(path, '');
    await truncate(path, deltaGeometry(this.sizeBytes).dataOffset + this.sizeBytes);
    return path;
  }

  geometry() {
    return deltaGeometry(this.sizeBytes);
  }

  /** Opens the files as a start does: the top for direct I/O. */
  async open(): Promise<{ layers: ServedLayer[]; close: () => Promise<void> }> {
    const files: FileHandle[] = [];
    for (const path of this.paths) {
      const isTop = path === this.paths.at(-1);
      files.push(await open(path, isTop ? constants.O_RDWR | constants.O_DIRECT : constants.O_RDONLY));
    }
    const layers = files.map(({ fd }, index): ServedLayer => {
      const geometry = index === 0 ? { mapOffset: 0, dataOffset: 0 } : this.geometry();
      return { kind: index === 0 ? 'image' : 'delta', fd, sizeBytes: this.sizeBytes, ...geometry };
    });
    return {
      layers,
      close: async () => {
        for (const file of files) await file.close();
      },
    };
  }

  /** Serves and attaches it. What a test leaves attached is detached at its end. */
  async serve(options: Partial<StackServerOptions> = {}): Promise<StackServer> {
    const files = await this.open();
    try {
      const start = () =>
        startStackServer({
          label: this.label,
          controlPath: this.controlPath,
          logPath: this.logPath,
          layers: files.layers,
          sizeBytes: this.sizeBytes,
          moveToCgroup: () => {},
          warn: (message) => {
            throw new Error(message);
          },
          ...options,
        });
      const server = await (options.transport === 'fuse-uring' ? withUringSwitch('Y', start) : start());
      cleanUp(() => endServer(server));
      return server;
    } finally {
      await files.close();
    }
  }

  control(): StackControl {
    return new StackControl(this.controlPath, this.label);
  }

  /** What there is of servers of this chain: processes, loop devices on its files, the control socket. */
  remains(): string[] {
    const processes = readdirSync('/proc').filter((pid) => /^\d+$/.test(pid) && commandLine(pid).includes(`${this.directory}/control`));
    const loops = attachedLoops().filter(({ backingFile }) => backingFile.startsWith(this.directory) || backingFile === `/${this.label}`);
    return [...processes, ...loops.map(({ index }) => `loop${index}`), ...(existsSync(this.controlPath) ? ['control'] : [])];
  }

  log(): Promise<string> {
    return readFile(this.logPath, 'utf8');
  }
}

async function endServer({ loop, pid, pidStart }: StackServer): Promise<void> {
  await loop.close();
  if (await hasEndedWithin({ pid, start: pidStart }, 20_000)) return;
  process.kill(pid, 'SIGKILL');
  throw new Error(`The storage server ${pid} did not end`);
}

/** Whether the process ends, at the latest after so long. */
export async function hasEndedWithin(identity: { pid: number; start: number }, waitMs: number): Promise<boolean> {
  for (const deadline = Date.now() + waitMs; isAlive(identity); await sleep(10)) {
    if (Date.now() > deadline) return false;
  }
  return true;
}

function commandLine(pid: string): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8');
  } catch {
    return '';
  }
}

/** The processes that this one has forked, and not yet waited for. */
export function childrenOf(pid: number): number[] {
  try {
    return readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').split(' ').filter(Boolean).map(Number);
  } catch {
    return [];
  }
}

/** A server's worker, as soon as there is one. */
export async function workerOf({ pid }: { pid: number }): Promise<number> {
  for (;;) {
    const [worker] = childrenOf(pid);
    if (worker !== undefined) return worker;
    await sleep(1);
  }
}

/** What a process has open, but for what it lets go of meanwhile. */
export function openFilesOf(pid: number): string[] {
  return readdirSync(`/proc/${pid}/fd`).flatMap((fd) => {
    try {
      return readlinkSync(`/proc/${pid}/fd/${fd}`);
    } catch {
      return [];
    }
  });
}

/** Every process that has this file open, by number. */
export async function holdersOf(path: string): Promise<number[]> {
  const holders: number[] = [];
  for (const pid of (await readdir('/proc')).filter((name) => /^\d+$/.test(name))) {
    const names = await readdir(`/proc/${pid}/fd`).catch(() => []);
    const targets = await Promise.all(names.map((name) => readlink(`/proc/${pid}/fd/${name}`).catch(() => '')));
    if (targets.includes(path)) holders.push(Number(pid));
  }
  return holders;
}

/** Mounts the device where others can see it; returns the directory. */
export async function mountServed(loop: LoopDevice): Promise<string> {
  const directory = await temporaryDirectory();
  await shell('mount', loop.path, directory);
  cleanUp(async () => {
    await shell('sh', '-c', 'while umount "$0" 2>/dev/null; do :; done; true', directory);
  });
  return directory;
}
