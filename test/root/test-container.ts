import { closeSync, cpSync, existsSync, openSync, readFileSync, readdirSync } from 'node:fs';
import { type FileHandle, open, readFile, writeFile, truncate } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { inject } from 'vitest';
import { attachLoop } from '../../src/loop/attach-loop';
import { mountImage } from '../../src/mount/mount-image';
import { readHierarchies } from '../../src/runtime/cgroup-hierarchies';
import { execInContainer } from '../../src/runtime/exec';
import type { Limits } from '../../src/runtime/oci-config';
import { hasEnded, readProcess } from '../../src/runtime/processes';
import { reapRun } from '../../src/runtime/reap';
import { type LastRun, RunDirectory, type RunRecord } from '../../src/runtime/run-directory';
import { startContainer } from '../../src/runtime/start-container';
import { inspectRun } from '../../src/runtime/status';
import { MiB } from '../../src/units';
import { busyboxTar, cleanUp, shell, temporaryDirectory } from '../fixtures';
import { attachedLoops } from '../loop-devices';
import { kill } from '../victims';

export interface TestStart {
  command?: string[];
  limits?: Limits;
  user?: number;
  terminal?: boolean;
  stdin?: boolean;
  beforeStart?: () => Promise<void>;
  exitCommand?: string[];
  signal?: AbortSignal;
}

const path = { PATH: '/bin' };

/** An ext4 image with busybox, in a run directory of its own, without the store around it. Killed and tidied up after the test. */
export class TestContainer {
  readonly directory: RunDirectory;
  readonly image: string;
  readonly logPath: string;
  #record: RunRecord | undefined;

  private constructor(place: string, runRoot: string) {
    this.directory = new RunDirectory({ runRoot, component: `_r-test${process.pid}`, id: 'box' });
    this.image = join(place, 'box.img');
    this.logPath = join(place, 'log/box.log');
  }

  static async create(runRoot?: string): Promise<TestContainer> {
    const place = await temporaryDirectory();
    const container = new TestContainer(place, runRoot ?? join(place, 'run'));
    cpSync(await busyboxImage(), container.image);
    cleanUp(() => container.#clear());
    return container;
  }

  get record(): RunRecord {
    if (!this.#record) throw new Error('The container was not started');
    return this.#record;
  }

  async start(options: TestStart = {}): Promise<RunRecord> {
    await using file: FileHandle = await open(this.image, 'r+');
    await using loop = await attachLoop({
      fd: file.fd,
      name: this.image,
      sizeLimitBytes: 0,
      blockSize: 4096,
      readOnly: false,
      directIo: false,
      warn: () => {},
    });
    await using mount = await mountImage(loop.path);
    this.#record = await startContainer({
      directory: this.directory,
      runtime: 'runc',
      logPath: this.logPath,
      mountFd: mount.fd,
      releaseDisk: () => mount.close(),
      spec: {
        command: options.command ?? ['sleep', '1000'],
        environment: path,
        workdir: '/',
        user: { uid: options.user ?? 0, gid: 0, groups: [] },
        hostname: 'box',
        limits: options.limits ?? {},
        terminal: options.terminal ?? false,
      },
      record: {
        id: 'box',
        file: this.image,
        identity: 'box',
        label: 'box',
        loop: { index: loop.index, diskSequence: loop.diskSequence },
        stopSignal: 'SIGTERM',
        limits: {},
      },
      stdin: options.stdin ?? false,
      beforeStart: options.beforeStart,
      exitCommand: options.exitCommand,
      signal: options.signal,
    });
    return this.#record;
  }

  /** Runs a shell's script in the container; returns its exit code and what it wrote. */
  async exec(script: string, options: { user?: number; signal?: AbortSignal } = {}): Promise<{ code: number; output: string }> {
    const file = join(dirname(this.logPath), 'exec-output');
    await writeFile(file, '');
    const fd = openSync(file, 'a');
    try {
      const code = await execInContainer({
        directory: this.directory,
        runtime: 'runc',
        process: { command: ['sh', '-c', script], environment: path, workdir: '/', user: { uid: options.user ?? 0, gid: 0, groups: [] } },
        terminal: false,
        stdin: false,
        streams: [0, fd, fd],
        signal: options.signal,
      });
      return { code, output: (await readFile(file, 'utf8')).trim() };
    } finally {
      closeSync(fd);
    }
  }

  /** Waits for the end, tidies up, and returns how it ended. */
  async ended(): Promise<LastRun | undefined> {
    for (let waited = 0; (await inspectRun(this.directory)).running; waited += 10) {
      if (waited > 20_000) throw new Error('The container does not end');
      await sleep(10);
    }
    await this.reap();
    return this.directory.readLast();
  }

  async reap(): Promise<void> {
    await reapRun(this.directory, 'runc');
  }

  /** Waits, for at most 2 s, until the kernel has let go of the image: no command of ours runs meanwhile. */
  async isFree(): Promise<boolean> {
    for (let waited = 0; waited < 2000; waited += 10) {
      if (!this.#isAttached()) return true;
      await sleep(10);
    }
    return false;
  }

  /** The processes with this name that work for this container. */
  processes(name: string): number[] {
    return livingProcesses().filter((pid) => nameOf(pid) === name && belongsTo(pid, this.directory));
  }

  /** Processes, cgroups and loop devices that are there for this container; none of them, and no longer than 2 s after its end. */
  async leftovers(): Promise<string[]> {
    for (let waited = 0; ; waited += 10) {
      const left = [
        ...livingProcesses()
          .filter((pid) => belongsTo(pid, this.directory))
          .map((pid) => `process ${pid} (${nameOf(pid)})`),
        ...readHierarchies()
          .map(({ mountPoint }) => join(mountPoint, this.directory.cgroupParent))
          .filter((path) => existsSync(path)),
        ...(this.#isAttached() ? [`loop device on ${this.image}`] : []),
      ];
      if (left.length === 0 || waited >= 2000) return left;
      await sleep(10);
    }
  }

  #isAttached(): boolean {
    return attachedLoops().some(({ backingFile }) => backingFile === this.image);
  }

  async #clear(): Promise<void> {
    const state = await inspectRun(this.directory);
    if (state.running) await kill(state.record.pid);
    for (let waited = 0; (await inspectRun(this.directory)).running && waited < 20_000; waited += 10) await sleep(10);
    await this.reap();
    this.directory.remove();
    const left = await this.leftovers();
    if (left.length > 0) throw new Error(`Left behind:\n${left.join('\n')}`);
  }
}

async function busyboxImage(): Promise<string> {
  const image = join(inject('runDirectory'), 'busybox.img');
  if (existsSync(image)) return image;
  const tree = join(dirname(await busyboxTar()), 'busybox');
  await writeFile(image, '');
  await truncate(image, 64 * MiB);
  await shell('mke2fs', '-q', '-F', '-t', 'ext4', '-b', '4096', '-d', tree, image);
  return image;
}

function livingProcesses(): number[] {
  const pids = readdirSync('/proc')
    .filter((entry) => /^\d+$/.test(entry))
    .map(Number);
  return pids.filter((pid) => {
    const status = readProcess(pid);
    return status !== undefined && !hasEnded(status);
  });
}

function belongsTo(pid: number, directory: RunDirectory): boolean {
  return textOf(`/proc/${pid}/cmdline`).includes(directory.root) || textOf(`/proc/${pid}/cgroup`).includes(`/${directory.cgroupParent}/`);
}

function nameOf(pid: number): string {
  return textOf(`/proc/${pid}/comm`).trim();
}

function textOf(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return '';
  }
}
