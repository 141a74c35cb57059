import { type ChildProcess, spawn } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { createServer, type Server, type Socket } from 'node:net';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { cleanUp, temporaryDirectory } from '../temporary';
import { guestDisk, initialRamDisk } from './guest-files';
import type { GuestKernel } from './kernels';

/** A script that takes longer hangs. */
const patienceMs = 300_000;

export interface GuestResult {
  code: number;
  stdout: string;
  stderr: string;
}

/** A virtual machine with another kernel, emulated, in which loopbox is installed. What it writes to its disk goes with it. */
export class Guest {
  readonly #process: ChildProcess;
  readonly #consolePath: string;
  #answers: AsyncIterator<string> | undefined;
  #port: Socket | undefined;

  private constructor(
    process: ChildProcess,
    readonly kernel: GuestKernel,
    consolePath: string,
  ) {
    this.#process = process;
    this.#consolePath = consolePath;
  }

  /** Boots; it is off when the test is over. */
  static async boot(kernel: GuestKernel): Promise<Guest> {
    const directory = await temporaryDirectory();
    const consolePath = join(directory, 'console');
    const portPath = join(directory, 'port');
    const server = createServer();
    const connected = new Promise<Socket>((resolve) => server.once('connection', resolve));
    await new Promise<void>((resolve) => server.listen(portPath, resolve));
    const machine = spawn(
      'qemu-system-x86_64',
      [
        '-accel tcg,thread=multi -cpu Nehalem,-cx16,+rdrand -smp 2 -m 1G -nodefaults -no-user-config -display none -no-reboot'.split(' '),
        ['-kernel', kernel.image, '-initrd', await initialRamDisk(kernel)],
        ['-append', 'console=ttyS0 panic=-1 quiet mitigations=off random.trust_cpu=on'],
        ['-drive', `file=${await guestDisk()},format=raw,if=virtio,snapshot=on,cache=unsafe`],
        ['-serial', `file:${consolePath}`, '-serial', `unix:${portPath}`],
      ].flat(),
      { stdio: ['ignore', 'ignore', 'pipe'], env: { ...process.env, TMPDIR: directory } },
    );
    const guest = new Guest(machine, kernel, consolePath);
    cleanUp(() => guest.#off(server));
    await guest.#listen(connected);
    return guest;
  }

  /** Runs a shell script as root; any exit code is a result. */
  async run(script: string): Promise<GuestResult> {
    this.#port?.write(`${Buffer.from(script).toString('base64')}\n`);
    const [code, stdout = '', stderr = '', bytes] = (await this.#answer()).split(',');
    if (Number(bytes) !== Buffer.byteLength(script)) throw new Error(`Linux ${this.kernel.version} got ${bytes} bytes of "${script}"`);
    const text = (base64: string) => Buffer.from(base64, 'base64').toString();
    return { code: Number(code), stdout: text(stdout), stderr: text(stderr) };
  }

  /** Runs a shell script of which every command must end with 0; returns its standard output, trimmed. */
  async done(script: string): Promise<string> {
    const { code, stdout, stderr } = await this.run(`set -e\n${script}`);
    if (code !== 0) throw new Error(`On Linux ${this.kernel.version} "${script}" ended with ${code}: ${stderr || stdout}`);
    return stdout.trim();
  }

  async #listen(connected: Promise<Socket>): Promise<void> {
    const ended = new Promise<never>((_, reject) => this.#process.once('exit', () => reject(new Error('the virtual machine has ended'))));
    ended.catch(() => {});
    this.#port = await Promise.race([connected, ended]);
    this.#answers = createInterface({ input: this.#port })[Symbol.asyncIterator]();
    await this.#answer();
  }

  async #answer(): Promise<string> {
    const patience = new AbortController();
    const answer = await Promise.race([this.#answers?.next(), sleep(patienceMs, undefined, { signal: patience.signal, ref: false })]);
    patience.abort();
    if (answer && !answer.done) return answer.value;
    const what = answer ? 'has ended' : 'does not answer';
    throw new Error(`Linux ${this.kernel.version} ${what}; its console:\n${await readFile(this.#consolePath, 'utf8')}`);
  }

  async #off(server: Server): Promise<void> {
    const ended = new Promise((resolve) => this.#process.once('exit', resolve));
    if (this.#process.exitCode === null && this.#process.signalCode === null) {
      this.#process.kill('SIGKILL');
      await ended;
    }
    server.close();
  }
}
