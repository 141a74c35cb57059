import { closeSync, constants, openSync, readlinkSync } from 'node:fs';
import { explain, isSystemError, LoopboxError } from '../errors';
import { findCommand } from '../mount/find-command';
import { Tree } from '../mount/tree';
import { lookUpUser } from '../mount/users';
import { type ExecRequest, execInContainer, type SendSignal } from '../runtime/exec';
import { inspectRun } from '../runtime/status';
import type { Store } from './store';
import { notRunning, resolveRun, type Target } from './target';

export interface ExecOptions {
  environment: Record<string, string>;
  workdir?: string | undefined;
  user?: string | undefined;
  terminal: boolean;
  stdin: boolean;
  /** Kills the command when it aborts. */
  signal?: AbortSignal | undefined;
  /** Called once the command is on its way, with what sends it a signal. */
  onStart?: ((send: SendSignal) => void) | undefined;
  /** Descriptors that it gets as its standard streams; the caller's own unless told. */
  streams?: ExecRequest['streams'];
}

/**
 * Runs a command, or without one a shell, in a running container's namespaces and cgroup, with the caller's standard streams, and returns its exit code
 * (128+n where signal n ended it). Throws ERR_LOOPBOX_COMMAND_NOT_FOUND, ERR_LOOPBOX_NOT_EXECUTABLE, ERR_LOOPBOX_WRONG_STATE.
 */
export async function execCommand(store: Store, argument: string, command: string[], options: ExecOptions): Promise<number> {
  const target = resolveRun(store, argument);
  const state = await inspectRun(target.directory);
  if (!state.running) throw notRunning(target, 'exec in');
  try {
    return await execIn(store, target, state.record.pid, command, options);
  } catch (error) {
    // A container that has ended meanwhile has taken along what the command needed.
    const ended = isDying(state.record.pid) || !(await inspectRun(target.directory)).running;
    throw ended && !options.signal?.aborted ? notRunning(target, 'exec in') : error;
  }
}

/** A process that is ending has left its namespaces for a while before it counts as ended: then nobody can join it any more. */
function isDying(pid: number): boolean {
  try {
    readlinkSync(`/proc/${pid}/ns/mnt`);
    return false;
  } catch {
    return true;
  }
}

/** As `execCommand`, in a container that is known to run: `pid` is its first process. */
export async function execIn(store: Store, target: Target, pid: number, command: string[], options: ExecOptions): Promise<number> {
  using root = openContainerRoot(pid, target);
  const tree = new Tree(root.fd);
  const defaults = target.directory.readConfig().process;
  const other = options.user === undefined ? undefined : await lookUpUser(tree, options.user);
  const { uid, gid, groups } = other ?? defaults.user;
  const environment: Record<string, string> = {
    ...defaults.environment,
    ...(other && { HOME: other.home }),
    ...(options.terminal && { TERM: process.env.TERM ?? 'xterm' }),
    ...options.environment,
  };
  const workdir = options.workdir ?? defaults.workdir;
  if (!(await tree.stat(workdir))?.isDirectory()) {
    throw new LoopboxError('ERR_LOOPBOX_NOT_FOUND', `Cannot exec in "${target.label}": it has no directory "${workdir}"`);
  }
  const argv = command.length > 0 ? command : [await findShell(tree)];
  await findCommand(tree, argv[0] ?? '', { path: environment.PATH ?? '/usr/bin:/bin', workdir });
  return await execInContainer({
    directory: target.directory,
    runtime: store.runtime,
    process: { command: argv, environment, workdir, user: { uid, gid, groups } },
    terminal: options.terminal,
    stdin: options.stdin,
    signal: options.signal,
    onStart: options.onStart,
    ...(options.streams && { streams: options.streams }),
  });
}

async function findShell(tree: Tree): Promise<string> {
  return (await tree.exists('/bin/bash')) ? '/bin/bash' : '/bin/sh';
}

/** The root directory that the container's first process sees: one that is just ending has none. */
function openContainerRoot(pid: number, target: Target): { fd: number } & Disposable {
  try {
    const fd = openSync(`/proc/${pid}/root`, constants.O_RDONLY | constants.O_DIRECTORY);
    return { fd, [Symbol.dispose]: () => closeSync(fd) };
  } catch (error) {
    throw isSystemError(error, 'ENOENT', 'ESRCH') ? notRunning(target, 'exec in') : explain(error, `exec in "${target.label}"`);
  }
}
