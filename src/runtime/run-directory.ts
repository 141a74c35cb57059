import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmdirSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { explain, isSystemError } from '../errors';
import type { Limits, OciConfig, ProcessSpec } from './oci-config';

/** What is known about a container that runs, or that has run and was not tidied up yet (`run.json`). */
export interface RunRecord {
  id: string;
  /** Absolute path of the container's file. */
  file: string;
  /** What tells that file from another that has its name or inode later. */
  identity: string;
  /** As messages show the container. */
  label: string;
  loop: { index: number; diskSequence: number };
  /** The storage server that its disk hangs on, if any. */
  server?: { pid: number; start: number };
  stopSignal: string;
  /** What it runs with, which a later change of its config may differ from. */
  limits: Limits;
  /** The OCI runtime's program, absolute. */
  runtime: string;
  terminal: boolean;
  /** Whether the monitor runs a command of its starter's at the end (`run --rm`), which a tidy-up before it would kill. */
  hasExitCommand: boolean;
  /** The container's first process, and its monitor. Start times (clock ticks since boot) tell them from later owners of the number. */
  pid: number;
  pidStart: number;
  conmonPid: number;
  conmonStart: number;
  /** ISO 8601. */
  startedAt: string;
}

/** What the caller of a start knows of the record. */
export type RunDetails = Pick<RunRecord, 'id' | 'file' | 'identity' | 'label' | 'loop' | 'server' | 'stopSignal' | 'limits'>;

/** How a run ended (`last.json`); kept until the next run ends. */
export interface LastRun {
  /** What ran: as in the record. */
  file: string;
  identity: string;
  /** The command's own, or 128+n where signal n killed it; null where no one knows it (yet). */
  exitCode: number | null;
  oomKilled: boolean;
  /** Whether it was killed because its storage server was lost. */
  storageLost?: boolean;
  /** Why the exit code is not known. */
  reason?: string;
  startedAt: string;
  endedAt: string;
  /** Whether its end was asked for (stop, kill). */
  requested: boolean;
}

/** Where a container's runtime state lies while it runs: an OCI bundle. Nothing in it is needed after a reboot. */
export class RunDirectory {
  readonly id: string;
  readonly root: string;
  /** Of the container's cgroups, below each hierarchy's root. */
  readonly cgroupParent: string;

  /** `component` keeps the runs of different stores apart. */
  constructor(options: { runRoot: string; component?: string | undefined; id: string }) {
    const components = options.component ? [options.component, options.id] : [options.id];
    this.id = options.id;
    this.root = join(options.runRoot, ...components);
    this.cgroupParent = join('loopbox', ...components);
  }

  get configPath(): string {
    return join(this.root, 'config.json');
  }
  get rootfsPath(): string {
    return join(this.root, 'rootfs');
  }
  get pidFile(): string {
    return join(this.root, 'pid');
  }
  get conmonPidFile(): string {
    return join(this.root, 'conmon.pid');
  }
  /** Where conmon writes how the container ended. */
  get persistDir(): string {
    return join(this.root, 'persist');
  }
  /** The OCI runtime's state directory. One per container: removing the run directory removes all. */
  get runtimeRoot(): string {
    return join(this.root, 'runtime');
  }
  get attachSocket(): string {
    return join(this.root, 'attach');
  }
  get ctl(): string {
    return join(this.root, 'ctl');
  }
  /** Locked (shared) by who still wants to read how the run ended. */
  get watchPath(): string {
    return join(this.root, 'watch');
  }

  /** Locked while the container's file system may be frozen; see `thawLeftover`. */
  get freezingPath(): string {
    return join(this.root, 'freezing');
  }

  /** The storage server's control socket. */
  get controlPath(): string {
    return join(this.root, 'control');
  }

  get serverLogPath(): string {
    return join(this.root, 'server.log');
  }

  /** Made by who finds that the container has lost its storage server, before the container is killed. */
  get storageLostPath(): string {
    return join(this.root, 'storage-lost');
  }

  /** Makes the directory with what a bundle needs. */
  prepare(): void {
    for (const directory of [this.rootfsPath, this.persistDir, this.runtimeRoot]) mkdirSync(directory, { recursive: true, mode: 0o700 });
  }

  exists(): boolean {
    return existsSync(this.root);
  }

  /** Whether there is more than the record of how the last run ended. */
  hasRemains(): boolean {
    return this.#entries().length > 0;
  }

  /** Whether a runtime knows, or half knows, the container. */
  hasRuntimeState(): boolean {
    return existsSync(join(this.runtimeRoot, this.id));
  }

  readRecord(): RunRecord | undefined {
    return readJson<RunRecord>(join(this.root, 'run.json'));
  }

  writeRecord(record: RunRecord): void {
    writeJson(join(this.root, 'run.json'), record);
  }

  readLast(): LastRun | undefined {
    return readJson<LastRun>(join(this.root, 'last.json'));
  }

  writeLast(last: LastRun): void {
    writeJson(join(this.root, 'last.json'), last);
  }

  /** Notes that an end within so long from now was asked for. A later one has other reasons: a command may take no notice of a signal. */
  markStopRequested(forMs: number): void {
    try {
      writeJson(this.#requestPath, Date.now() + forMs);
    } catch (error) {
      // It has ended, and is tidied up already.
      if (!isSystemError(error, 'ENOENT')) throw error;
    }
  }

  /** Takes the request back. */
  clearStopRequest(): void {
    rmSync(this.#requestPath, { force: true });
  }

  /** Whether an end at this time, or at one that is not known, was asked for. */
  wasStopRequested(time?: Date): boolean {
    const until = readJson<number>(this.#requestPath);
    return until !== undefined && (time === undefined || time.getTime() <= until);
  }

  get #requestPath(): string {
    return join(this.root, 'stop-requested');
  }

  /** The process that the container was started with. */
  readConfig(): { process: ProcessSpec } {
    const { process } = JSON.parse(readFileSync(this.configPath, 'utf8')) as OciConfig;
    return {
      process: {
        command: process.args,
        environment: Object.fromEntries(
          process.env.map((entry) => [entry.slice(0, entry.indexOf('=')), entry.slice(entry.indexOf('=') + 1)]),
        ),
        workdir: process.cwd,
        user: { uid: process.user.uid, gid: process.user.gid, groups: process.user.additionalGids },
      },
    };
  }

  /** Removes all but the record of how the last run ended, and the directory itself where there is none. */
  clear(): void {
    this.#removeRootfs();
    for (const entry of this.#entries()) rmSync(join(this.root, entry), { recursive: true, force: true });
    this.#removeEmpty();
  }

  remove(): void {
    this.#removeRootfs();
    rmSync(this.root, { recursive: true, force: true });
    this.#removeEmpty();
  }

  #entries(): string[] {
    try {
      return readdirSync(this.root).filter((entry) => entry !== 'last.json' && entry !== 'watch');
    } catch (error) {
      if (isSystemError(error, 'ENOENT', 'ENOTDIR')) return [];
      throw error;
    }
  }

  /** Empty on the host. Whatever somebody has mounted or put there is not ours to delete. */
  #removeRootfs(): void {
    try {
      rmdirSync(this.rootfsPath);
    } catch (error) {
      if (!isSystemError(error, 'ENOENT', 'ENOTDIR')) throw explain(error, `tidy up after "${this.id}"`, { hint: `ls ${this.rootfsPath}` });
    }
  }

  #removeEmpty(): void {
    if (existsSync(this.root) && !existsSync(join(this.root, 'last.json'))) rmSync(this.watchPath, { force: true });
    for (const directory of [this.root, dirname(this.root)]) {
      try {
        rmdirSync(directory);
      } catch (error) {
        if (!isSystemError(error, 'ENOENT', 'ENOTEMPTY', 'EBUSY', 'EEXIST')) throw error;
      }
    }
  }
}

function readJson<T>(path: string): T | undefined {
  try {
    return JSON.parse(readFileSync(path, 'utf8')) as T;
  } catch (error) {
    // A record that can't be read says as little as one that is not there.
    if (isSystemError(error, 'ENOENT', 'ENOTDIR') || error instanceof SyntaxError) return undefined;
    throw error;
  }
}

/** Whole or not at all for who reads meanwhile. No fsync: after a reboot the run is over anyway. */
function writeJson(path: string, value: unknown): void {
  const temporary = `${path}.${process.pid}`;
  writeFileSync(temporary, JSON.stringify(value), { mode: 0o600 });
  renameSync(temporary, path);
}
