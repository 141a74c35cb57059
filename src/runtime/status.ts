import { existsSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { isSystemError } from '../errors';
import { exitCodeOfStatus, findProcess, hasEnded, isAlive } from './processes';
import type { LastRun, RunDirectory, RunRecord } from './run-directory';
import { thawLeftover } from './thaw';

/** A container's state as its processes tell it. */
export type RunState =
  | {
      running: true;
      record: RunRecord;
      /** False where the monitor was killed: the container goes on, its log and exit code are lost. */
      monitorAlive: boolean;
      last?: undefined;
    }
  | {
      running: false;
      /** Of a run that has ended and was not tidied up yet. */
      record?: RunRecord;
      /** Whether the monitor still writes down how the container ended, or runs its exit command. */
      monitorAlive: boolean;
      /** How the last run ended; missing where there was none. */
      last?: LastRun;
    };

/**
 * Looks at a run, and ends a freeze that two killed processes have left. Judged by the container's first process, never by the exit file
 * alone: a stalled attach client blocks the monitor.
 */
export async function inspectRun(directory: RunDirectory): Promise<RunState> {
  await thawLeftover(directory);
  const record = directory.readRecord();
  if (!record) return withLast({ running: false, monitorAlive: false }, directory.readLast());
  const monitorAlive = isAlive({ pid: record.conmonPid, start: record.conmonStart });
  if (isAlive({ pid: record.pid, start: record.pidStart })) return { running: true, record, monitorAlive };
  return { running: false, record, monitorAlive, last: describeEnd(directory, record, monitorAlive) };
}

function withLast(state: { running: false; monitorAlive: boolean }, last: LastRun | undefined): RunState {
  return last ? { ...state, last } : state;
}

function describeEnd(directory: RunDirectory, record: RunRecord, monitorAlive: boolean): LastRun {
  const exit = readExit(directory) ?? exitOfZombie(record);
  const exitCode = exit?.code ?? null;
  const requested = directory.wasStopRequested(exit?.time);
  return {
    file: record.file,
    identity: record.identity,
    exitCode,
    // The file also tells of a child that was killed for lack of memory; the command itself may then have been killed by us.
    oomKilled: exitCode === 137 && !requested && existsSync(join(directory.persistDir, 'oom')),
    ...(existsSync(directory.storageLostPath) && { storageLost: true }),
    ...(exitCode === null && { reason: monitorAlive ? 'its monitor has not told yet' : 'its monitor was killed' }),
    startedAt: record.startedAt,
    endedAt: (exit?.time ?? new Date()).toISOString(),
    requested,
  };
}

/** Whether the monitor has written down how the container ended: the log is complete then, and only its exit command is left. */
export function hasTold(directory: RunDirectory): boolean {
  return readExit(directory) !== undefined;
}

function readExit(directory: RunDirectory): { code: number; time: Date } | undefined {
  const path = join(directory.persistDir, 'exit');
  try {
    const text = readFileSync(path, 'utf8').trim();
    return /^\d+$/.test(text) ? { code: Number(text), time: statSync(path).mtime } : undefined;
  } catch (error) {
    if (isSystemError(error, 'ENOENT', 'ENOTDIR')) return undefined;
    throw error;
  }
}

/** The kernel keeps the exit code of a process that its monitor is too busy to reap. */
function exitOfZombie(record: RunRecord): { code: number; time?: undefined } | undefined {
  const status = findProcess({ pid: record.pid, start: record.pidStart });
  return status && hasEnded(status) ? { code: exitCodeOfStatus(status.exitStatus) } : undefined;
}
