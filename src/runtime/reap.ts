import { setTimeout as sleep } from 'node:timers/promises';
import { LoopboxError } from '../errors';
import { ContainerCgroups } from './cgroups';
import { Driver } from './driver';
import type { RunDirectory } from './run-directory';
import { hasTold, inspectRun, type RunState } from './status';
import { thawLeftover } from './thaw';

const pauseMs = 10;
const monitorPatienceMs = 1000;

/**
 * Tidies up after a run that has ended, or a start whose process was killed: keeps how it ended, and removes the runtime's state,
 * cgroups and the rest of the run directory. Does nothing while the container runs. A monitor that is still there is killed once it has
 * told how the container ended, or after a second (an attach client that does not read may hold it for ever), and with it its exit
 * command. To the exit command itself it is no obstacle. `runtime` (name or path) is used where no record says which one created the
 * container. For the holder of the verb lock.
 */
export async function reapRun(directory: RunDirectory, runtime: string): Promise<void> {
  if (!directory.hasRemains()) return;
  const cgroups = new ContainerCgroups(directory.cgroupParent);
  const isExitCommand = cgroups.isInMonitor(process.pid);
  const isInTheWay = (now: RunState) => !now.running && now.monitorAlive && !isExitCommand && !hasTold(directory);
  let state = await inspectRun(directory);
  for (let waited = 0; isInTheWay(state) && waited < monitorPatienceMs; waited += pauseMs) {
    await sleep(pauseMs);
    state = await inspectRun(directory);
  }
  if (state.running) return;
  if (state.record && state.last) directory.writeLast(state.last);
  await removeRun(directory, state.record?.runtime ?? runtime, cgroups);
}

/** Ends whatever is there of a run, at whatever point, and removes all but the record of how the last one ended. */
export async function removeRun(
  directory: RunDirectory,
  runtime: string,
  cgroups: ContainerCgroups,
  releaseDisk?: () => Promise<void>,
): Promise<void> {
  // First those who could still make something: the monitor, a create in flight, the guardian.
  await cgroups.kill('monitor');
  // Among them may have been the one that held a freeze, without which nothing would end any more.
  await thawLeftover(directory);
  if (directory.hasRuntimeState()) await deleteState(directory, runtime);
  // A create that died before its first record left a process that delete knows nothing about.
  await cgroups.kill('container');
  await releaseDisk?.();
  await cgroups.remove();
  directory.clear();
}

async function deleteState(directory: RunDirectory, runtime: string): Promise<void> {
  try {
    await new Driver(runtime, directory).delete();
  } catch (error) {
    // Where it is not installed any more: no process outlives its cgroup, and the state is in the run directory.
    if (!(error instanceof LoopboxError && error.code === 'ERR_LOOPBOX_NOT_SUPPORTED')) throw error;
  }
}
