import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { TestRunner } from 'vitest';
import { Store } from '../src/container/store';
import { busyboxTar } from './busybox-tar';
import { type ExecuteOptions, type ExecuteResult, execute } from './execute';
import { cleanUp, keepsTemporaryFiles, temporaryDirectory } from './temporary';

export const program = join(import.meta.dirname, '../bin/loopbox');
const logs = '/var/log/loopbox';

/** A root and a run root of their own for bin/loopbox; whatever runs from it is stopped when the test is over. */
export class TestStore {
  private constructor(
    readonly root: string,
    readonly runRoot: string,
  ) {}

  /** A store in a temporary directory, or in `directory` (of another file system), with its run root elsewhere if told. */
  static async create(directory?: string, runDirectory?: string): Promise<TestStore> {
    const place = directory ?? (await temporaryDirectory());
    const store = new TestStore(join(place, 'root'), join(runDirectory ?? place, 'run'));
    cleanUp(() => store.#clear());
    return store;
  }

  /** What the run directories, cgroups and logs of this store carry in their paths. */
  get component(): string {
    return new Store({ root: this.root }).component ?? '';
  }

  /** What the commands of this store find in their environment. */
  get environment(): Record<string, string> {
    return { LOOPBOX_ROOT: this.root, LOOPBOX_RUN_ROOT: this.runRoot };
  }

  /** Runs bin/loopbox; any exit code is a result. */
  async loopbox(args: string[], options: ExecuteOptions = {}): Promise<ExecuteResult> {
    return execute(program, args, { ...options, env: { ...this.environment, ...options.env } });
  }

  /** Runs bin/loopbox, which must end with 0; returns its standard output, trimmed. */
  async done(...args: string[]): Promise<string> {
    const result = await this.loopbox(args);
    if (result.code !== 0) throw new Error(`"loopbox ${args.join(' ')}" ended with ${result.code}: ${result.stderr}`);
    return result.stdout.trim();
  }

  /** As `done`, with `--format json`; returns what that prints. */
  async json(...args: string[]): Promise<unknown> {
    return JSON.parse(await this.done(...args, '--format', 'json'));
  }

  /** `inspect --format json` of a container. */
  async inspect(name: string): Promise<Record<string, unknown>> {
    return (await this.json('inspect', name)) as Record<string, unknown>;
  }

  /** Imports `busyboxTar` as a template. */
  async importBusybox(name = 'busybox', ...flags: string[]): Promise<void> {
    await this.done('template', 'import', name, await busyboxTar(), ...flags);
  }

  /** `create` of the template `busybox`. */
  async createBusybox(name: string, ...args: string[]): Promise<string> {
    return this.done('create', name, '--template', 'busybox', ...args);
  }

  /** `run -d` of the template `busybox`. */
  async runBusybox(name: string, ...args: string[]): Promise<string> {
    return this.done('run', '-d', '--template', 'busybox', name, ...args);
  }

  /** Where the container's file lies, or would as an image. */
  fileOf(name: string): string {
    const delta = join(this.root, 'containers', `${name}.delta`);
    return existsSync(delta) ? delta : this.imageOf(name);
  }

  /** Where the file of a container that is one image lies. */
  imageOf(name: string): string {
    return join(this.root, 'containers', `${name}.img`);
  }

  /** The processes that merge files of this store without being asked. */
  mergers(): number[] {
    const isMerger = (pid: string) => {
      const words = commandLine(pid);
      return words.includes('--unasked') && words[words.indexOf('--root') + 1] === this.root;
    };
    return readdirSync('/proc')
      .filter((entry) => /^\d+$/.test(entry) && isMerger(entry))
      .map(Number);
  }

  async #clear(): Promise<void> {
    const names = async (...args: string[]) => (await this.loopbox(args)).stdout.split('\n').filter(Boolean);
    for (const name of await names('ps', '-q')) await this.loopbox(['stop', '-t', '0', name]);
    if (keepsTemporaryFiles) return;
    for (const name of await names('ls', '-q')) if (!name.includes('/')) await this.loopbox(['rm', '-f', '--snapshots', name]);
    // The next command after an end takes away what has no owner in the kernel: cgroups and run directory.
    await this.loopbox(['ls']);
    // One that has lost its container ends by itself.
    while (this.mergers().length > 0) await sleep(20);
    // What has just been killed may make a file yet.
    for (const path of [join(logs, this.component), this.root, this.runRoot]) {
      await rm(path, { recursive: true, force: true, maxRetries: 20 });
    }
  }
}

/** Empty where the process has gone. */
function commandLine(pid: string): string[] {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0');
  } catch {
    return [];
  }
}

const stores = new Map<string, Promise<TestStore>>();

/** Runs bin/loopbox in the store of the running test, which is made with the first call; outside of tests, in the file's. */
export async function loopbox(args: string[], options: ExecuteOptions = {}): Promise<ExecuteResult> {
  const test = TestRunner.getCurrentTest()?.id ?? 'file';
  const store = stores.get(test) ?? TestStore.create();
  stores.set(test, store);
  return (await store).loopbox(args, options);
}
