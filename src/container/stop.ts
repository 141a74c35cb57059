import { setTimeout as sleep } from 'node:timers/promises';
import { LoopboxError } from '../errors';
import type { LastRun, RunDirectory, RunRecord } from '../runtime/run-directory';
import { signalContainer } from '../runtime/signal-container';
import { inspectRun, type RunState } from '../runtime/status';
import { awaitDetached } from './await-detached';
import { FileLock } from './locks';
import { isOwnPast } from './past';
import { type StartOptions, startLocked } from './start';
import { requireSpaceToStop, storageControl } from './storage-state';
import type { Store } from './store';
import { notRunning, resolveRun, resolveTarget, type Target } from './target';
import { finishRun } from './tidy';
import { lockTarget } from './work';

export interface StopOptions {
  /** Seconds between the stop signal and KILL; 10 unless told. */
  timeoutSeconds?: number | undefined;
  signal?: AbortSignal | undefined;
  /** Gives up the writes that wait for space on the host: what was not synced is lost, and the file system's journal makes it whole again. */
  dropHeld?: boolean | undefined;
}

const pollMs = 15;
const lookMs = 1000;
/** What follows a signal so soon is its doing, and SIGKILL ends everything in that time. */
export const soonMs = 10_000;

/**
 * Stops the container: its stop signal, KILL after the time-out. Stopping a stopped one is done. Returns when its file is free.
 * Throws ERR_LOOPBOX_NO_SPACE where its writes wait for space on the host.
 */
export async function stopContainer(store: Store, argument: string, options: StopOptions): Promise<void> {
  const target = resolveRun(store, argument);
  await using _lock = await lockTarget(store, target, options.signal);
  await stopLocked(target, options);
  await finishRun(store, target, soonMs);
}

/** As `stopContainer`, for a caller that holds the verb lock; what the run left is still there. */
export async function stopLocked(target: Target, options: StopOptions): Promise<void> {
  const state = await inspectRun(target.directory);
  if (state.running) {
    if (options.dropHeld) await storageControl(target, state.record)?.release();
    if (!(await endsOfStopSignal(target, state.record, options))) {
      await signalIfRunning(state.record, 'SIGKILL');
      if (!(await hasEnded(target, state.record, soonMs))) throw stillThere(target, 'it does not die of SIGKILL');
    }
  }
  if (state.record && !(await awaitDetached(state.record))) {
    throw stillThere(target, 'its file is still attached; a process outside holds its mount');
  }
}

async function endsOfStopSignal(target: Target, record: RunRecord, options: StopOptions): Promise<boolean> {
  const { directory } = target;
  const timeoutMs = (options.timeoutSeconds ?? 10) * 1000;
  directory.markStopRequested(timeoutMs + soonMs);
  try {
    await requireSpaceToStop(target, record);
    await signalIfRunning(record, record.stopSignal);
    return await hasEnded(target, record, timeoutMs, options.signal);
  } catch (error) {
    // Who gives up has not stopped it.
    directory.clearStopRequest();
    throw error;
  }
}

/** The container may end by itself at any moment, which is what stopping is for. A signal that can't be sent does not keep KILL from following. */
async function signalIfRunning(record: RunRecord, signal: string): Promise<void> {
  try {
    await signalContainer(record, signal);
  } catch (error) {
    if (!(error instanceof LoopboxError)) throw error;
  }
}

/** Stops and starts again, with no other command in between. Throws ERR_LOOPBOX_WRONG_STATE where a copy runs that ends with its run. */
export async function restartContainer(store: Store, argument: string, options: StopOptions & StartOptions): Promise<void> {
  const run = resolveRun(store, argument);
  const target = resolveTarget(store, run.name ?? run.path);
  if (target.id !== run.id) {
    throw new LoopboxError('ERR_LOOPBOX_WRONG_STATE', `Cannot restart "${run.label}": a copy of it runs, which ends with its run`, {
      hint: `loopbox stop ${argument}`,
    });
  }
  await using lock = await lockTarget(store, target, options.signal);
  await stopLocked(target, options);
  await startLocked(store, target, { ...options, held: lock.held });
}

/** Sends a signal, by name or number, to the container's command. Throws ERR_LOOPBOX_WRONG_STATE where it does not run. */
export async function killContainer(store: Store, argument: string, signal: string): Promise<void> {
  const target = resolveRun(store, argument);
  const state = await inspectRun(target.directory);
  if (!state.running) throw notRunning(target, 'kill');
  if (/^((SIG)?(KILL|TERM)|9|15)$/i.test(signal)) target.directory.markStopRequested(soonMs);
  await signalContainer(state.record, signal);
}

/** Waits for the container's end and returns how it ended; at once where it does not run. */
export async function waitForContainer(store: Store, argument: string, signal?: AbortSignal): Promise<LastRun | undefined> {
  const target = resolveRun(store, argument);
  await using _watch = await watchEnd(target.directory);
  return (await isOwnPast(target)) === false ? undefined : await awaitEnd(target.directory, signal);
}

/**
 * Keeps the record of a container's end from being removed (`run --rm`) before its watcher has read it: a shared lock, which
 * ends with the watcher's process.
 */
export async function watchEnd(directory: RunDirectory): Promise<FileLock | undefined> {
  return directory.exists() ? FileLock.take(directory.watchPath, 'shared', 0) : undefined;
}

/** Waits until the container has ended and its exit code is known, or can't become known any more. */
export async function awaitEnd(directory: RunDirectory, signal?: AbortSignal): Promise<LastRun | undefined> {
  let state: RunState;
  for (;;) {
    state = await inspectRun(directory);
    if (!state.running) break;
    await sleep(pollMs, undefined, signal && { signal });
  }
  for (let waited = 0; state.last?.exitCode === null && state.monitorAlive && waited < 2000; waited += pollMs) {
    await sleep(pollMs, undefined, signal && { signal });
    state = await inspectRun(directory);
  }
  return state.last;
}

async function hasEnded(target: Target, record: RunRecord, timeoutMs: number, signal?: AbortSignal): Promise<boolean> {
  const begun = Date.now();
  let looked = begun;
  while ((await inspectRun(target.directory)).running) {
    const now = Date.now();
    if (now >= begun + timeoutMs) return false;
    // The host may have become full meanwhile, and nothing then ends that writes.
    if (now >= looked + lookMs) {
      await requireSpaceToStop(target, record);
      looked = now;
    }
    await sleep(pollMs, undefined, signal && { signal });
  }
  return true;
}

/** Lets the monitor write the log's end and the exit code; one that is stalled by its attach client is not waited for. */
export async function awaitMonitor(directory: RunDirectory): Promise<void> {
  for (let waited = 0; waited < 1000 && (await inspectRun(directory)).monitorAlive; waited += pollMs) await sleep(pollMs);
}

function stillThere(target: Target, why: string): LoopboxError {
  return new LoopboxError('ERR_LOOPBOX_IN_USE', `Cannot stop "${target.label}": ${why}`);
}
