import { readFileSync } from 'node:fs';
import { isSystemError } from '../errors';

/** A process, told from a later owner of its number by its start time (clock ticks since boot). */
export interface ProcessIdentity {
  pid: number;
  start: number;
}

export interface ProcessStatus extends ProcessIdentity {
  /** `Z` or `X` once its first thread has ended. */
  state: string;
  parent: number;
  /** The process group. */
  group: number;
  /** How many there are, the first included until it is reaped. */
  threads: number;
  /** As wait(2) reports it, of one that has ended. */
  exitStatus: number;
}

/** What /proc tells about a process; undefined where there is none. */
export function readProcess(pid: number): ProcessStatus | undefined {
  try {
    return parseStatus(pid, readFileSync(`/proc/${pid}/stat`, 'utf8'));
  } catch (error) {
    if (isSystemError(error, 'ENOENT', 'ESRCH')) return undefined;
    throw error;
  }
}

/** Parses proc(5)'s `stat`. The second field, the program's name, may hold anything, so that fields count from its last `)`. */
export function parseStatus(pid: number, stat: string): ProcessStatus {
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  const field = (number: number): string => fields[number - 3] ?? '';
  return {
    pid,
    state: field(3),
    parent: Number(field(4)),
    group: Number(field(5)),
    threads: Number(field(20)),
    start: Number(field(22)),
    exitStatus: Number(field(52)),
  };
}

/** The status of exactly this process, also once it has ended but nobody has reaped it. */
export function findProcess({ pid, start }: ProcessIdentity): ProcessStatus | undefined {
  const status = readProcess(pid);
  return status?.start === start ? status : undefined;
}

/** Whether it runs: one that has ended counts as gone, whether reaped or not. */
export function isAlive(identity: ProcessIdentity): boolean {
  const status = findProcess(identity);
  return status !== undefined && !hasEnded(status);
}

/** A process goes on without its first thread as long as it has others. */
export function hasEnded({ state, threads }: ProcessStatus): boolean {
  return (state === 'Z' || state === 'X') && threads <= 1;
}

/** The exit code that a shell would show for a wait(2) status. */
export function exitCodeOfStatus(status: number): number {
  const signal = status & 0x7f;
  return signal === 0 ? (status >> 8) & 0xff : 128 + signal;
}
