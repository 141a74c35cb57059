import { closeSync } from 'node:fs';
import { constants } from 'node:os';
import { isSystemError, LoopboxError } from '../errors';
import { native } from '../native';
import { isAlive } from './processes';
import type { RunRecord } from './run-directory';

/** The first real-time signal that the C library leaves to programs, and the last. */
const firstRealTime = 34;
const lastRealTime = 64;

/** Sends a signal (`TERM`, `SIGRTMIN+3`, `9`) to a container's first process, and surely to no other. ERR_LOOPBOX_WRONG_STATE where it has ended. */
export async function signalContainer(record: RunRecord, signal: string): Promise<void> {
  const number = parseSignal(signal);
  let pidfd: number | undefined;
  try {
    pidfd = native().openPidfd(record.pid);
    // Checked after the opening: from then on the descriptor stands for this process alone.
    if (!isAlive({ pid: record.pid, start: record.pidStart })) throw hasGone(record);
    native().signalPidfd(pidfd, number);
  } catch (error) {
    throw isSystemError(error, 'ESRCH') ? hasGone(record) : error;
  } finally {
    if (pidfd !== undefined) closeSync(pidfd);
  }
}

/** The number of a signal given by name, with or without `SIG`, or by number. Throws ERR_LOOPBOX_USAGE for anything else. */
export function parseSignal(signal: string): number {
  const text = signal.toUpperCase().replace(/^SIG/, '');
  const named = (constants.signals as Record<string, number | undefined>)[`SIG${text}`];
  if (named !== undefined) return named;
  const realTime = /^RT(MIN|MAX)(?:([+-])(\d+))?$/.exec(text);
  const number = realTime ? realTimeSignal(realTime) : /^\d+$/.test(text) ? Number(text) : 0;
  if (number >= 1 && number <= lastRealTime && (!realTime || number >= firstRealTime)) return number;
  throw new LoopboxError('ERR_LOOPBOX_USAGE', `Cannot send the signal "${signal}": there is no such signal`, { hint: 'kill -l' });
}

function realTimeSignal([, end, sign, offset]: RegExpExecArray): number {
  const base = end === 'MIN' ? firstRealTime : lastRealTime;
  return base + Number(offset ?? 0) * (sign === '-' ? -1 : 1);
}

function hasGone(record: RunRecord): LoopboxError {
  return new LoopboxError('ERR_LOOPBOX_WRONG_STATE', `Cannot signal "${record.label}": it is not running`);
}
