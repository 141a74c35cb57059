import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { constants } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { isSystemError, LoopboxError } from '../errors';
import { programEnvironment } from '../process';
import { Driver } from './driver';
import { makeOciProcess, type OciProcess, type ProcessSpec } from './oci-config';
import { readProcess } from './processes';
import type { RunDirectory } from './run-directory';

export type SendSignal = (name: NodeJS.Signals) => void;

export interface ExecRequest {
  directory: RunDirectory;
  /** The OCI runtime, by name or path. */
  runtime: string;
  process: ProcessSpec;
  terminal: boolean;
  /** Whether the process reads the caller's input; otherwise its input is empty. */
  stdin: boolean;
  /** Kills the process in the container. */
  signal?: AbortSignal | undefined;
  /** Called once the process is on its way, with what sends it a signal. */
  onStart?: ((send: SendSignal) => void) | undefined;
  /** Descriptors that the process gets as its standard streams; the caller's own unless told. */
  streams?: [stdin: number, stdout: number, stderr: number];
}

let execs = 0;

/**
 * Runs a process in a container's namespaces and cgroup and returns its exit code, 128+n where signal n ended it. What can't be executed has
 * to be found out before: runtimes end with 255 then, as the process itself may. Throws ERR_LOOPBOX_FAILED where the runtime did not start
 * it, and has said why on standard error.
 */
export async function execInContainer(request: ExecRequest): Promise<number> {
  const { directory, signal } = request;
  signal?.throwIfAborted();
  const base = join(directory.root, `exec-${process.pid}-${++execs}`);
  const [processFile, pidFile] = [`${base}.json`, `${base}.pid`];
  const driver = new Driver(directory.readRecord()?.runtime ?? request.runtime, directory);
  writeFileSync(processFile, JSON.stringify(ociProcess(request)), { mode: 0o600 });
  try {
    const [stdin, stdout, stderr] = request.streams ?? [0, 1, 2];
    const [program, ...args] = driver.execCommand(processFile, pidFile);
    const child = spawn(program, args, {
      stdio: [request.stdin ? stdin : 'ignore', stdout, stderr],
      env: programEnvironment(),
    });
    const ended = once(child, 'exit') as Promise<[number | null, NodeJS.Signals | null]>;
    request.onStart?.((name) => void (isKeyOfRuntime(name, request.terminal) || child.kill(name)));
    const abort = () => void killProcessOf(pidFile, child);
    signal?.addEventListener('abort', abort, { once: true });
    try {
      const [code, killer] = await ended;
      signal?.throwIfAborted();
      if (code && (code < 128 || code === 255) && !existsSync(pidFile)) throw notStarted(directory);
      return code ?? 128 + (killer ? constants.signals[killer] : 0);
    } finally {
      signal?.removeEventListener('abort', abort);
    }
  } finally {
    for (const path of [processFile, pidFile]) rmSync(path, { force: true });
  }
}

/** Those of the terminal's keys reach the runtime, in the same process group, by themselves. */
function isKeyOfRuntime(name: NodeJS.Signals, terminal: boolean): boolean {
  return !terminal && (name === 'SIGINT' || name === 'SIGQUIT') && isForeground();
}

/** Whether the terminal's keys send their signals to this process's group (proc(5): `pgrp` and `tpgid`). */
function isForeground(): boolean {
  const stat = readFileSync('/proc/self/stat', 'utf8');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return fields[2] === fields[5];
}

/** With the terminal's size from the first moment on; later changes are the runtime's. */
function ociProcess({ process: spec, terminal }: ExecRequest): OciProcess {
  const oci = makeOciProcess(spec, terminal);
  if (!terminal) return oci;
  const [width, height] = [process.stdout, process.stderr].find((stream) => stream.isTTY)?.getWindowSize() ?? [];
  return width && height ? { ...oci, consoleSize: { height, width } } : oci;
}

function notStarted(directory: RunDirectory): LoopboxError {
  return new LoopboxError('ERR_LOOPBOX_FAILED', `Cannot exec in "${directory.id}": the runtime did not start the command`);
}

/**
 * Kills the process in the container, with what it began and is still of its group, not the runtime before it: its process would live on.
 * A runtime that goes on all the same waits for others that hold the output: it is killed, too.
 */
async function killProcessOf(pidFile: string, child: ChildProcess): Promise<void> {
  let killed = 0;
  for (; child.exitCode === null && child.signalCode === null; await sleep(10)) {
    try {
      const pid = Number(readFileSync(pidFile, 'utf8'));
      if (pid <= 0) continue;
      if (killed++ >= 100) child.kill('SIGKILL');
      // A group lives on when the process that it has its number from is gone.
      process.kill((readProcess(pid)?.group ?? pid) === pid ? -pid : pid, 'SIGKILL');
    } catch (error) {
      if (!isSystemError(error, 'ENOENT', 'ESRCH')) throw error;
    }
  }
}
