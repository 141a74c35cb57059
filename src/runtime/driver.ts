import { rmSync, writeFileSync } from 'node:fs';
import { basename, join, resolve } from 'node:path';
import { LoopboxError } from '../errors';
import { packageDirectory } from '../package';
import { run } from '../process';
import { findProgram } from './find-program';
import type { OciResources } from './oci-config';
import type { RunDirectory } from './run-directory';
import { describeRuntimeFailure } from './runtime-messages';

/**
 * The beginning of an argv that runs an OCI runtime in a mount namespace of its own; `--` and the runtime's arguments are its end.
 * Runtimes mount their own program over itself on their way: not to be seen on the host, nor to stay there when they are killed.
 */
export function privately(runtime: string): [string, ...string[]] {
  return [join(packageDirectory, 'build', 'loopbox-oci'), '--runtime', runtime];
}

/** An OCI runtime (runc, crun, or another with their command line) at work on one container. */
export class Driver {
  /** Absolute path of the runtime. */
  readonly program: string;
  readonly #directory: RunDirectory;

  /** Takes the runtime by name or path. Throws ERR_LOOPBOX_NOT_SUPPORTED where it is not installed. */
  constructor(nameOrPath: string, directory: RunDirectory) {
    this.program = findProgram(nameOrPath.includes('/') ? resolve(nameOrPath) : nameOrPath);
    this.#directory = directory;
  }

  /** Arguments that come before the verb. */
  get globalArguments(): string[] {
    return ['--root', this.#directory.runtimeRoot];
  }

  /** Lets the command of a created container begin. */
  async start(): Promise<void> {
    try {
      await this.#run(['start', this.#directory.id], 'start');
    } catch (error) {
      // The pipe that held the command back is gone where it was to be removed: the command has begun, ended, and been cleaned up behind.
      if (!(error instanceof LoopboxError && /(remove|unlink)\b.*exec\.fifo.*no such file/i.test(error.message))) throw error;
    }
  }

  /** The argv of `delete`. */
  get deleteCommand(): [string, ...string[]] {
    return this.#command(['delete', '--force', this.#directory.id]);
  }

  /** Kills what is left of the container and removes the runtime's state and the container's cgroups. Done where there is none. */
  async delete(): Promise<void> {
    const [program, ...args] = this.deleteCommand;
    await run(program, args);
  }

  /** Changes limits of the running container, all in one step: the runtime knows in which order they fit. */
  async update(resources: OciResources): Promise<void> {
    const path = join(this.#directory.root, `update-${process.pid}.json`);
    writeFileSync(path, JSON.stringify(resources), { mode: 0o600 });
    try {
      await this.#run(['update', '--resources', path, this.#directory.id], 'set the limits of');
    } finally {
      rmSync(path, { force: true });
    }
  }

  /** The argv that runs another process in the container, with the caller's standard streams, to its end. */
  execCommand(processFile: string, pidFile: string): [string, ...string[]] {
    return this.#command(['exec', '--process', processFile, '--pid-file', pidFile, this.#directory.id]);
  }

  #command(args: string[]): [string, ...string[]] {
    return [...privately(this.program), '--', ...this.globalArguments, ...args];
  }

  async #run(args: string[], action: string): Promise<void> {
    const [program, ...rest] = this.#command(args);
    const result = await run(program, rest, { okCodes: [...Array(256).keys()] });
    if (result.code !== 0) throw describeRuntimeFailure(action, this.#directory.id, result.stderr || result.stdout);
  }
}

export interface RuntimeInfo {
  name: string;
  path: string;
  version: string;
  /** Whether containers start with it unless told otherwise. */
  default: boolean;
}

/** The OCI runtimes that are installed here. */
export async function listRuntimes(defaultRuntime: string): Promise<RuntimeInfo[]> {
  const found: RuntimeInfo[] = [];
  for (const candidate of new Set([defaultRuntime, 'runc', 'crun'])) {
    try {
      const path = findProgram(candidate);
      const [program, ...args] = privately(path);
      const { stdout } = await run(program, [...args, '--', '--version']);
      const version = /version (\S+)/.exec(stdout)?.[1] ?? '';
      found.push({ name: basename(candidate), path, version, default: candidate === defaultRuntime });
    } catch (error) {
      if (!(error instanceof LoopboxError)) throw error;
    }
  }
  return found;
}
