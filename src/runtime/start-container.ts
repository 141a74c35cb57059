import { closeSync, readFileSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { isSystemError, LoopboxError } from '../errors';
import { native } from '../native';
import { abortable } from './abortable';
import { ContainerCgroups } from './cgroups';
import { Monitor } from './conmon';
import { Driver, privately } from './driver';
import { findProgram } from './find-program';
import { prepareLog } from './logs';
import { type ContainerSpec, makeOciConfig } from './oci-config';
import { readProcess } from './processes';
import { removeRun } from './reap';
import type { RunDetails, RunDirectory, RunRecord } from './run-directory';

export interface StartRequest {
  /** A container's run directory, with nothing of an earlier run in it but how that ended. */
  directory: RunDirectory;
  /** The OCI runtime, by name or path. */
  runtime: string;
  logPath: string;
  /** The container's file system: a mount that is attached nowhere. */
  mountFd: number;
  spec: Omit<ContainerSpec, 'rootfs' | 'cgroupsPath'>;
  record: RunDetails;
  /** Whether the command's input comes from an attach client; otherwise it is empty. */
  stdin: boolean;
  /** Called between the runtime's create and start: the attach client connects here and misses nothing. */
  beforeStart?: (() => Promise<void>) | undefined;
  /** Called after a failure, once nothing of the container runs any more: lets go of its mount and what that hangs on. */
  releaseDisk: () => Promise<void>;
  /** Run by the monitor after the container's end, in place of the runtime's own removal. */
  exitCommand?: string[] | undefined;
  signal?: AbortSignal | undefined;
}

/**
 * Starts a container on a mounted file system, detached from the caller, and returns once its command runs. After a failure or an
 * abort nothing is left of it. Where the calling process dies in between, the guardian (native/runtime) ends what it began.
 */
export async function startContainer(request: StartRequest): Promise<RunRecord> {
  const { directory, signal } = request;
  signal?.throwIfAborted();
  const driver = new Driver(request.runtime, directory);
  const cgroups = new ContainerCgroups(directory.cgroupParent);
  const [readEnd, guardianPipe] = native().pipe();
  closeSync(readEnd);
  let monitor: Monitor | undefined;
  try {
    directory.prepare();
    monitor = await Monitor.spawn(monitorRequest(request, driver, cgroups, guardianPipe));
    // What follows overlaps with the monitor's own beginning.
    cgroups.create();
    const spec = { ...request.spec, rootfs: directory.rootfsPath, cgroupsPath: join('/', directory.cgroupParent, 'container') };
    writeFileSync(directory.configPath, JSON.stringify(makeOciConfig(spec, { canLimitSwap: cgroups.canLimitSwap() })), { mode: 0o600 });
    cgroups.moveToMonitor(monitor.pid);
    signal?.throwIfAborted();
    monitor.release();
    const pid = await abortable(monitor.created(), signal);
    const record = makeRecord(request, driver, pid);
    directory.writeRecord(record);
    if (request.beforeStart) await abortable(request.beforeStart(), signal);
    signal?.throwIfAborted();
    // From here on the command may run: there is no going back, and a signal is the command's.
    await driver.start();
    tellGuardian(guardianPipe);
    return record;
  } catch (error) {
    closeSync(guardianPipe);
    monitor?.close();
    await removeAfterFailure(error, request, driver.program, cgroups);
    // Ctrl-C reaches the runtime as well.
    signal?.throwIfAborted();
    throw error;
  } finally {
    monitor?.close();
  }
}

function monitorRequest(request: StartRequest, driver: Driver, cgroups: ContainerCgroups, guardianPipe: number) {
  const { directory } = request;
  const ours = `/proc/${process.pid}/fd`;
  const [exitProgram, ...exitArguments] = request.exitCommand ?? driver.deleteCommand;
  return {
    directory,
    logPath: request.logPath,
    logBytes: prepareLog(request.logPath),
    runtime: [
      [...privately(driver.program), '--mount', `${ours}/${request.mountFd}`, '--rootfs', directory.rootfsPath],
      ['--guardian', `${ours}/${guardianPipe}`, '--processes', cgroups.processesFile],
      ['--root', directory.runtimeRoot, '--id', directory.id, '--'],
      driver.globalArguments,
    ].flat(),
    exitCommand: [findProgram(exitProgram ?? ''), ...exitArguments],
    terminal: request.spec.terminal,
    stdin: request.stdin,
  };
}

function makeRecord(request: StartRequest, driver: Driver, pid: number): RunRecord {
  const conmonPid = readMonitorPid(request.directory);
  return {
    ...request.record,
    runtime: driver.program,
    terminal: request.spec.terminal,
    hasExitCommand: request.exitCommand !== undefined,
    pid,
    pidStart: readProcess(pid)?.start ?? 0,
    conmonPid,
    conmonStart: readProcess(conmonPid)?.start ?? 0,
    startedAt: new Date().toISOString(),
  };
}

/** Written by the monitor's first process, while the next one goes on: it may have been killed before. */
function readMonitorPid({ id, conmonPidFile }: RunDirectory): number {
  try {
    return Number(readFileSync(conmonPidFile, 'utf8'));
  } catch (cause) {
    if (!isSystemError(cause, 'ENOENT')) throw cause;
    throw new LoopboxError('ERR_LOOPBOX_FAILED', `Cannot start "${id}": its monitor was killed on the way`, { cause });
  }
}

/** From here on the container lives without its starter. */
function tellGuardian(pipe: number): void {
  try {
    writeSync(pipe, '\0');
  } catch (error) {
    // Someone killed the guardian; the container runs all the same.
    if (!isSystemError(error, 'EPIPE')) throw error;
  }
  closeSync(pipe);
}

async function removeAfterFailure(failure: unknown, request: StartRequest, runtime: string, cgroups: ContainerCgroups): Promise<void> {
  try {
    await removeRun(request.directory, runtime, cgroups, request.releaseDisk);
  } catch (error) {
    const [first, second] = [failure, error].map((each) => (each instanceof Error ? each.message : String(each)));
    const code = failure instanceof LoopboxError ? failure.code : 'ERR_LOOPBOX_FAILED';
    throw new LoopboxError(code, `${first}; and then: ${second}`, { cause: failure });
  }
}
