import { readdirSync } from 'node:fs';
import { setImmediate as nextTurn, setTimeout as sleep } from 'node:timers/promises';
import { isSystemError } from '../src/errors';
import { hasEnded, readProcess } from '../src/runtime/processes';
import { processesOf, type StoreProcess } from './remains';
import type { TestStore } from './store';

/**
 * The processes that a start is made of, those that serve a container's disk, and the one that holds it frozen. `init` is the container's first,
 * from the runtime's first steps in its cgroup on.
 */
export type Victim = 'CLI' | 'conmon' | 'runc' | 'loopbox-oci' | 'guardian' | 'init' | 'keeper' | 'worker' | 'freezer';

const names: Partial<Record<Victim, string>> = {
  guardian: 'loopbox-guard',
  keeper: 'loopbox-keeper',
  worker: 'loopbox-worker',
  freezer: 'loopbox-freeze',
};

/** All processes of the host, to tell those that come later from. */
export function processesNow(): ReadonlySet<string> {
  return new Set(readdirSync('/proc').filter((entry) => /^\d+$/.test(entry)));
}

/** Looks for a kind of process of the store's runs. */
export function findVictims(store: TestStore, victim: Victim, before?: ReadonlySet<string>): number[] {
  const isVictim = ({ name, inContainer }: StoreProcess) =>
    victim === 'init' ? inContainer : !inContainer && name === (names[victim] ?? victim);
  return processesOf(store, before)
    .filter(isVictim)
    .map(({ pid }) => pid);
}

export interface Ambush {
  /** Not looked at. */
  before: ReadonlySet<string>;
  /** The CLI that starts the container. */
  cliPid: number;
  /** The victim dies so long after now, or, where it comes only later, at once with its coming. */
  delayMs: number;
  /** Given to a victim that comes after the delay. */
  graceMs: number;
  /** Whether the start has ended: then the victim has got away. */
  isOver: () => boolean;
}

/**
 * Kills one process of each kind at a moment of a start, all at once as soon as all are there. Returns when they have ended, and
 * which of them had not ended before.
 */
export async function ambush(store: TestStore, victims: Victim[], { before, cliPid, delayMs, graceMs, isOver }: Ambush): Promise<Victim[]> {
  await sleep(delayMs);
  const find = () => victims.map((victim) => (victim === 'CLI' ? cliPid : findVictims(store, victim, before)[0]));
  let pids = find();
  if (pids.includes(undefined)) {
    while ((pids = find()).includes(undefined)) {
      if (isOver()) return [];
      await nextTurn();
    }
    for (const end = performance.now() + graceMs; performance.now() < end; );
  }
  const killed = pids.map((pid) => pid !== undefined && sendKill(pid));
  for (const [index, pid] of pids.entries()) if (pid !== undefined && killed[index]) await ended(pid);
  return victims.filter((_, index) => killed[index]);
}

/** `kill -9`; returns once the process has ended, and false where it had before. */
export async function kill(pid: number): Promise<boolean> {
  const wasThere = sendKill(pid);
  await ended(pid);
  return wasThere;
}

/** `kill -9`, not waiting for the end; false where there is no such process any more. */
export function sendKill(pid: number): boolean {
  // 0 stands for the tests themselves.
  if (!(pid > 0)) throw new Error(`There is no process ${pid} to kill`);
  try {
    return process.kill(pid, 'SIGKILL');
  } catch (error) {
    if (isSystemError(error, 'ESRCH')) return false;
    throw error;
  }
}

async function ended(pid: number): Promise<void> {
  for (let status = readProcess(pid); status && !hasEnded(status); status = readProcess(pid)) await nextTurn();
}
