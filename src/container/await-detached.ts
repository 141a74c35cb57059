import { setTimeout as sleep } from 'node:timers/promises';
import { readLoop } from '../loop/list-loops';
import { isAlive } from '../runtime/processes';
import type { RunRecord } from '../runtime/run-directory';

const pollMs = 15;

/**
 * The kernel unmounts and detaches after the last process has gone, and a storage server then writes what is left and ends; from then on the
 * file may be copied. False where that takes too long.
 */
export async function awaitDetached({ loop, server }: RunRecord): Promise<boolean> {
  const isDetached = () => readLoop(loop.index)?.diskSequence !== loop.diskSequence;
  const hasServerEnded = () => !server || !isAlive(server);
  return (await becomes(isDetached, 10_000)) && (await becomes(hasServerEnded, serverPatienceMs));
}

/** A slow disk may have much to write. */
const serverPatienceMs = 120_000;

async function becomes(condition: () => boolean, patienceMs: number): Promise<boolean> {
  for (const deadline = Date.now() + patienceMs; !condition(); await sleep(pollMs)) if (Date.now() > deadline) return false;
  return true;
}
