import { type ChildProcess, spawn } from 'node:child_process';
import { constants } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { createInterface, type Interface } from 'node:readline';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { readLoop } from '../../src/loop/list-loops';
import type { StackServer } from '../../src/loop/stack-server';
import { MiB } from '../../src/units';
import { cleanUp } from '../fixtures';
import { childrenOf, hasEndedWithin } from '../served-chain';
import { sendKill } from '../victims';
import { block } from './content';

/** How many requests of up to 1 MiB may be under way at once. */
export const queueDepth = 8;

type Memory = new (options: { initial: number }) => { buffer: ArrayBuffer };
const { Memory } = (globalThis as unknown as { WebAssembly: { Memory: Memory } }).WebAssembly;
// Direct I/O wants aligned memory, which only this kind of it promises to be.
const memory = Buffer.from(new Memory({ initial: (queueDepth * MiB) / 65_536 }).buffer);

/** A piece of memory for one request. */
export function bufferFor(request: number, blocks: number): Buffer {
  return memory.subarray(request * MiB, request * MiB + blocks * block);
}

/** Faster deaths in a row, and the keeper gives up. */
const killPauseMs = 100;

/** A chain that is attached, as one who writes to it past the page cache sees it. */
export class ServedDisk {
  #lastKill = 0;

  private constructor(
    readonly server: StackServer,
    private readonly file: FileHandle,
    private readonly ioctls: BlockIoctls,
  ) {}

  static async open(server: StackServer, ioctls: BlockIoctls): Promise<ServedDisk> {
    return new ServedDisk(server, await open(server.loop.path, constants.O_RDWR | constants.O_DIRECT), ioctls);
  }

  async write(first: number, bytes: Buffer): Promise<void> {
    const { bytesWritten } = await this.file.write(bytes, 0, bytes.length, first * block);
    if (bytesWritten !== bytes.length) throw new Error(`${bytesWritten} of ${bytes.length} bytes are written`);
  }

  async read(first: number, bytes: Buffer): Promise<Buffer> {
    const { bytesRead } = await this.file.read(bytes, 0, bytes.length, first * block);
    if (bytesRead !== bytes.length) throw new Error(`${bytesRead} of ${bytes.length} bytes are read`);
    return bytes;
  }

  flush(): Promise<void> {
    return this.file.sync();
  }

  clear(how: 'discard' | 'zero', first: number, blocks: number): Promise<void> {
    return this.ioctls.ask(`${how} ${this.server.loop.path} ${first * block} ${blocks * block}`);
  }

  /** Kills the worker, unless one was killed a moment ago. */
  killWorker(): void {
    if (Date.now() - this.#lastKill < killPauseMs) return;
    this.#lastKill = Date.now();
    childrenOf(this.server.pid).forEach(sendKill);
  }

  /** Lets go of the device, and waits until nobody has the files open; `kill` ends keeper and worker before. */
  async close({ kill = false } = {}): Promise<void> {
    const { loop, pid, pidStart } = this.server;
    if (kill) process.kill(pid, 'SIGKILL');
    await this.file.close();
    await loop.close();
    if (!(await hasEndedWithin({ pid, start: pidStart }, 20_000))) throw new Error(`The storage server ${pid} did not end`);
    while (readLoop(loop.index)?.diskSequence === loop.diskSequence) await sleep(2);
  }
}

/** What Node has no calls for, by a process that has. */
export class BlockIoctls {
  readonly #child: ChildProcess;
  readonly #lines: Interface;

  constructor() {
    this.#child = spawn('/usr/bin/python3', [join(import.meta.dirname, 'block-ioctl.py')], { stdio: ['pipe', 'pipe', 'inherit'] });
    this.#lines = createInterface({ input: this.#child.stdout as NodeJS.ReadableStream });
    cleanUp(() => void this.#child.stdin?.end());
  }

  async ask(line: string): Promise<void> {
    const answer = new Promise<string>((resolve) => this.#lines.once('line', resolve));
    this.#child.stdin?.write(`${line}\n`);
    const said = await answer;
    if (said !== 'ok') throw new Error(`${line}: ${said}`);
  }
}
