import { type ChildProcess, spawn } from 'node:child_process';
import { constants, open, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Duplex } from 'node:stream';
import { promisify } from 'node:util';
import { CleanupStack } from '../cleanup';
import { Descriptor } from '../descriptor';
import { explain, isSystemError, LoopboxError } from '../errors';
import { packageDirectory } from '../package';
import { programEnvironment } from '../process';
import type { Warn } from '../progress';
import { attachLoop, type LoopDevice } from './attach-loop';
import { serverRefusal } from './server-refusal';
import { defaultTransport, requireTransport, type Transport } from './transports';

/** One file of a chain, by its geometry. The server keeps the open file description, and with it its attachment lock. */
export interface ServedLayer {
  kind: 'image' | 'delta';
  fd: number;
  sizeBytes: number;
  /** 0 for an image. */
  mapOffset: number;
  dataOffset: number;
  /** Of the source of a fold: bits of blocks below it no longer count. */
  firstBlock?: number;
}

export interface StackServerOptions {
  /** What losetup shows, and what messages call it. */
  label: string;
  /** Where the control socket is made; the directory is there. */
  controlPath: string;
  logPath: string;
  /** Bottom first; the last is the top, open for reading, writing and direct I/O. */
  layers: ServedLayer[];
  sizeBytes: number;
  /** A guard loop device (`attachGuard`), which the server holds from then on, too. */
  guardFd?: number | undefined;
  /** Called with the server's process before it does anything, to take it out of the caller's cgroup. The first move costs 15 ms. */
  moveToCgroup: (pid: number) => void | Promise<void>;
  warn: Warn;
  /** How long the server looks out for the next request before it sleeps, while they follow each other closely; 200 unless told, 0 never. */
  spinMicroseconds?: number | undefined;
  /** `fuse` unless told. */
  transport?: Transport | undefined;
}

/** A chain that is attached as one flat loop device. All of it ends by itself with the device's last close. */
export interface StackServer {
  loop: LoopDevice;
  /** The keeper: the process that lives exactly as long as the attachment. */
  pid: number;
  /** Its start time, in clock ticks since boot. */
  pidStart: number;
}

const openFile = promisify(open);

/** Longer names are cut by the kernel's loop device; a file system's name can't have a slash. */
function fileName(label: string): string {
  const name = label.replaceAll('/', '_');
  return name.length > 60 ? `…${name.slice(-59)}` : name;
}

/**
 * Starts a storage server on a chain and attaches it: a process of its own session, with no descriptor of ours but those it is given.
 * After a failure nothing is left of it; its last words are in the error. ERR_LOOPBOX_NOT_SUPPORTED where the kernel lacks the transport.
 */
export async function startStackServer(options: StackServerOptions): Promise<StackServer> {
  requireTransport(options.transport ?? defaultTransport);
  const server = new StartingServer(options);
  try {
    await options.moveToCgroup(server.pid);
    const { root, pidStart } = await server.begin();
    const loop = await server.attach(root, options);
    server.finish();
    return { loop, pid: server.pid, pidStart };
  } catch (error) {
    throw (await server.kill()) ?? explain(error, `attach "${options.label}"`);
  }
}

const fileFlags = constants.O_RDWR | constants.O_DIRECT;

/** Without the first every reply wakes ksoftirqd; the second is what one request of the server carries. */
const queueSettings = [
  ['rq_affinity', '2'],
  ['max_sectors_kb', '1024'],
] as const;

async function attachServed(fd: number, { label, sizeBytes, warn }: StackServerOptions): Promise<LoopDevice> {
  const loop = await attachLoop({
    fd,
    name: label,
    // The file passes for a larger one: the disk may grow.
    sizeLimitBytes: sizeBytes,
    blockSize: 4096,
    readOnly: false,
    directIo: true,
    warn,
  });
  try {
    // The kernel keeps both for the next use of this number. To change the second stops the queue for 15 ms.
    for (const [name, value] of queueSettings) {
      const path = `/sys/block/loop${loop.index}/queue/${name}`;
      if (readFileSync(path, 'utf8').trim() !== value) writeFileSync(path, value);
    }
    return loop;
  } catch (error) {
    await loop.close();
    throw error;
  }
}

/**
 * Attaches an idle read-only loop device to an image that a storage server is going to serve, on the very same open file description:
 * util-linux then refuses a `mount -o loop` of the file, which would destroy it. Close it once the server has it.
 */
export function attachGuard(image: { fd: number; label: string; sizeBytes: number }): Promise<LoopDevice> {
  return attachLoop({
    fd: image.fd,
    name: image.label,
    sizeLimitBytes: image.sizeBytes,
    blockSize: 4096,
    readOnly: true,
    directIo: true,
    warn: () => {},
  });
}

/** A server between its spawn and the moment from which it lives by itself. */
class StartingServer {
  readonly pid: number;
  /** Rejects where the server ends too early. */
  readonly #failed: Promise<never>;
  readonly #child: ChildProcess;
  readonly #controlPath: string;
  #words = '';
  #onWords = () => {};

  constructor(options: StackServerOptions) {
    this.#controlPath = options.controlPath;
    this.#child = spawn(join(packageDirectory, 'build/loopbox-server'), serverArguments(options), {
      detached: true,
      cwd: '/',
      env: { PATH: programEnvironment().PATH },
      stdio: ['ignore', 'ignore', 'ignore', 'pipe', 'pipe', ...inherited(options)],
    });
    this.#failed = this.#watch();
    this.#failed.catch(() => {});
    this.pid = this.#child.pid ?? 0;
  }

  #watch(): Promise<never> {
    for (const stream of this.#child.stdio.slice(3)) stream?.on('error', () => {});
    (this.#child.stdio[4] as Duplex | null)?.setEncoding('utf8').on('data', (text: string) => {
      this.#words += text;
      this.#onWords();
    });
    return new Promise((_, reject) => {
      this.#child.once('error', (error) => reject(explain(error, `run "${this.#child.spawnfile}"`)));
      // Not 'exit': what it said before comes first.
      this.#child.once('close', () => reject(ended(this.#words)));
    });
  }

  /** Lets it begin; returns its descriptor of the file system's root, and its start time. */
  async begin(): Promise<{ root: number; pidStart: number }> {
    this.#pipe.write('\0');
    const said = new Promise<void>((resolve) => {
      this.#onWords = () => this.#words.includes('\n') && resolve();
    });
    await Promise.race([said, this.#failed]);
    const [, root, pidStart] = /^ready (\d+) (\d+)\n/.exec(this.#words) ?? [];
    if (root === undefined) throw ended(this.#words);
    return { root: Number(root), pidStart: Number(pidStart) };
  }

  /** Attaches the one file of its file system. */
  async attach(root: number, options: StackServerOptions): Promise<LoopDevice> {
    await using undo = new CleanupStack();
    try {
      await using file = new Descriptor(await openFile(`/proc/${this.pid}/fd/${root}/${fileName(options.label)}`, fileFlags));
      const loop = undo.use(await attachServed(file.fd, options));
      // Which asks the server: only then is nothing left that its end could make fail.
      await file.close();
      undo.disarm();
      return loop;
    } catch (error) {
      // All of it was there when it said so, and goes with it.
      if (isSystemError(error, 'ENOENT', 'ENOTCONN', 'ECONNABORTED')) throw ended(this.#words);
      throw error;
    }
  }

  /** From here on the loop device alone keeps it. */
  finish(): void {
    this.#pipe.end('\0');
    this.#child.removeAllListeners();
    this.#child.unref();
    for (const stream of this.#child.stdio.slice(3)) (stream as Duplex | null)?.once('finish', () => stream?.destroy());
    (this.#child.stdio[4] as Duplex).destroy();
  }

  /** Returns what it said of its own end, if that was why. */
  async kill(): Promise<unknown> {
    const gone = this.#failed.catch(() => {});
    this.#child.kill('SIGKILL');
    await gone;
    for (const stream of this.#child.stdio.slice(3)) stream?.destroy();
    rmSync(this.#controlPath, { force: true });
    return reasonIn(this.#words) === undefined ? undefined : ended(this.#words);
  }

  get #pipe(): Duplex {
    return this.#child.stdio[3] as Duplex;
  }
}

/** `error ERRNO TEXT`, as the server says it before it ends. */
function reasonIn(words: string): string | undefined {
  return /^error .*$/m.exec(words)?.[0];
}

function ended(words: string): unknown {
  const reason = reasonIn(words);
  if (reason !== undefined) return explain(serverRefusal('start', reason), 'start the storage server');
  return new LoopboxError('ERR_LOOPBOX_FAILED', 'Cannot start the storage server: it ended too early');
}

/** The server's descriptors from 5 on: the layers, then the guard. */
function inherited({ layers, guardFd }: StackServerOptions): number[] {
  return [...layers.map(({ fd }) => fd), ...(guardFd === undefined ? [] : [guardFd])];
}

function serverArguments(options: StackServerOptions): string[] {
  const { layers } = options;
  return [
    ['--name', fileName(options.label), '--size', String(options.sizeBytes)],
    ['--control', options.controlPath, '--log', options.logPath],
    ['--transport', options.transport ?? defaultTransport],
    ['--spin', String(options.spinMicroseconds ?? 200)],
    options.guardFd === undefined ? [] : ['--guard', String(5 + layers.length)],
    layers.flatMap(({ kind, sizeBytes, mapOffset, dataOffset, firstBlock = 0 }, index) => [
      '--layer',
      [kind, 5 + index, sizeBytes, mapOffset, dataOffset, firstBlock].join(':'),
    ]),
  ].flat();
}
