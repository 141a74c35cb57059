import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { constants } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { isSystemError } from '../errors';
import { programEnvironment } from '../process';
import { Driver } from './driver';
import { makeOciProcess, type ProcessSpec } from './oci-config';
import type { RunDirectory } from './run-directory';

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
  /** Descriptors that the process gets as its standard streams; the caller's own unless told. */
  streams?: [stdin: number, stdout: number, stderr: number];
}

const forwarded = ['SIGINT', 'SIGQUIT', 'SIGTERM', 'SIGHUP', 'SIGUSR1', 'SIGUSR2'] as const;
let execs = 0;

/**
 * Runs a process in a container's namespaces and cgroup and returns its exit code, 128+n where signal n ended it. Signals that the calling
 * process gets meanwhile are the container process's. What can't be executed has to be found out before: runtimes end with 255 then, as
 * the process itself may.
 */
export async function execInContainer(request: ExecRequest): Promise<number> {
  const { directory, signal } = request;
  signal?.throwIfAborted();
  const base = join(directory.root, `exec-${process.pid}-${++execs}`);
  const [processFile, pidFile] = [`${base}.json`, `${base}.pid`];
  const driver = new Driver(directory.readRecord()?.runtime ?? request.runtime, directory);
  writeFileSync(processFile, JSON.stringify(makeOciProcess(request.process, request.terminal)), { mode: 0o600 });
  try {
    const [stdin, stdout, stderr] = request.streams ?? [0, 1, 2];
    const [program, ...args] = driver.execCommand(processFile, pidFile);
    const child = spawn(program, args, {
      stdio: [request.stdin ? stdin : 'ignore', stdout, stderr],
      env: programEnvironment(),
    });
    const ended = once(child, 'exit') as Promise<[number | null, NodeJS.Signals | null]>;
    const stopForwarding = forwardSignals((name) => child.kill(name));
    const abort = () => void killProcessOf(pidFile, () => child.exitCode !== null || child.signalCode !== null);
    signal?.addEventListener('abort', abort, { once: true });
    try {
      const [code, killer] = await ended;
      signal?.throwIfAborted();
      return code ?? 128 + (killer ? constants.signals[killer] : 0);
    } finally {
      stopForwarding();
      signal?.removeEventListener('abort', abort);
    }
  } finally {
    for (const path of [processFile, pidFile]) rmSync(path, { force: true });
  }
}

/** Passes on signals that were sent to this process alone: those of the terminal's keys reach the runtime, in the same process group, by themselves. */
function forwardSignals(deliver: (name: NodeJS.Signals) => void): () => void {
  const isKey = (name: string) => (name === 'SIGINT' || name === 'SIGQUIT') && isForeground();
  const handlers = forwarded.map((name) => [name, () => isKey(name) || deliver(name)] as const);
  for (const [name, handler] of handlers) process.on(name, handler);
  return () => {
    for (const [name, handler] of handlers) process.off(name, handler);
  };
}

/** Whether the terminal's keys send their signals to this process's group (proc(5): `pgrp` and `tpgid`). */
function isForeground(): boolean {
  const stat = readFileSync('/proc/self/stat', 'utf8');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return fields[2] === fields[5];
}

/** Kills the process in the container, not the runtime before it: its process would live on. */
async function killProcessOf(pidFile: string, hasEnded: () => boolean): Promise<void> {
  for (; !hasEnded(); await sleep(10)) {
    try {
      const pid = Number(readFileSync(pidFile, 'utf8'));
      if (pid > 0) process.kill(pid, 'SIGKILL');
    } catch (error) {
      if (!isSystemError(error, 'ENOENT', 'ESRCH')) throw error;
    }
  }
}
