import { closeSync, readFileSync } from 'node:fs';
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
  send(record, parseSignal(signal), (number) => number);
}

/**
 * As `signalContainer`, for a signal that would end a process which has not asked for it (INT, TERM, PIPE, …). The kernel spares the first
 * process of a pid namespace that: it is killed in its place. Returns whether it was.
 */
export async function interruptContainer(record: RunRecord, signal: NodeJS.Signals): Promise<boolean> {
  let spared = false;
  send(record, constants.signals[signal], (number) => {
    spared = isSpared(record.pid, number);
    return spared ? constants.signals.SIGKILL : number;
  });
  return spared;
}

/** Whether the process neither handles, nor ignores, nor holds back the signal (proc(5): masks with bit n-1 for signal n). */
function isSpared(pid: number, signal: number): boolean {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8');
  const masks = [...status.matchAll(/^Sig(?:Blk|Ign|Cgt):\t([0-9a-f]+)$/gm)].map(([, mask]) => BigInt(`0x${mask}`));
  return masks.every((mask) => ((mask >> BigInt(signal - 1)) & 1n) === 0n);
}

/** `choose` gets the signal once the process can't be mistaken any more. */
function send(record: RunRecord, signal: number, choose: (signal: number) => number): void {
  let pidfd: number | undefined;
  try {
    pidfd = native().openPidfd(record.pid);
    // Checked after the opening: from then on the descriptor stands for this process alone.
    if (!isAlive({ pid: record.pid, start: record.pidStart })) throw hasGone(record);
    native().signalPidfd(pidfd, choose(signal));
  } catch (error) {
    throw isSystemError(error, 'ESRCH', 'ENOENT') ? hasGone(record) : error;
  } finally {
    if (pidfd !== undefined) closeSync(pidfd);
  }
}

export function isSignal(signal: string): boolean {
  return numberOf(signal) !== undefined;
}

/** The number of a signal given by name, with or without `SIG`, or by number. Throws ERR_LOOPBOX_USAGE for anything else. */
export function parseSignal(signal: string): number {
  const number = numberOf(signal);
  if (number !== undefined) return number;
  throw new LoopboxError('ERR_LOOPBOX_USAGE', `Cannot send the signal "${signal}": there is no such signal`, { hint: 'kill -l' });
}

function numberOf(signal: string): number | undefined {
  const text = signal.toUpperCase().replace(/^SIG/, '');
  const named = (constants.signals as Record<string, number | undefined>)[`SIG${text}`];
  if (named !== undefined) return named;
  const realTime = /^RT(MIN|MAX)(?:([+-])(\d+))?$/.exec(text);
  const number = realTime ? realTimeSignal(realTime) : /^\d+$/.test(text) ? Number(text) : 0;
  return number >= 1 && number <= lastRealTime && (!realTime || number >= firstRealTime) ? number : undefined;
}

function realTimeSignal([, end, sign, offset]: RegExpExecArray): number {
  const base = end === 'MIN' ? firstRealTime : lastRealTime;
  return base + Number(offset ?? 0) * (sign === '-' ? -1 : 1);
}

function hasGone(record: RunRecord): LoopboxError {
  return new LoopboxError('ERR_LOOPBOX_WRONG_STATE', `Cannot signal "${record.label}": it is not running`);
}
