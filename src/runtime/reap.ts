import { setTimeout as sleep } from 'node:timers/promises';
import { ContainerCgroups } from './cgroups';
import { Driver } from './driver';
import type { RunDirectory } from './run-directory';
import { hasTold, inspectRun, type RunState } from './status';

const pauseMs = 10;
const monitorPatienceMs = 1000;

/**
 * Tidies up after a run that has ended, or a start whose process was killed: keeps how it ended, and removes the runtime's state,
 * cgroups and the rest of the run directory. Does nothing while the container runs. A monitor that is still there is left to finish,
 * and nothing is removed; with `killMonitor` it is killed once it has told how the container ended, or after a second (an attach
 * client that does not read may hold it for ever), and with it its exit command. To the exit command itself it is no obstacle.
 * `runtime` (name or path) is used where no record says which one created the container. For the holder of the verb lock.
 */
export async function reapRun(directory: RunDirectory, runtime: string, options: { killMonitor: boolean }): Promise<void> {
  if (!directory.hasRemains()) return;
  const cgroups = new ContainerCgroups(directory.cgroupParent);
  const isExitCommand = cgroups.isInMonitor(process.pid);
  const isInTheWay = (now: RunState) => !now.running && now.monitorAlive && !isExitCommand && !(options.killMonitor && hasTold(directory));
  let state = await inspectRun(directory);
  for (let waited = 0; isInTheWay(state) && waited < monitorPatienceMs; waited += pauseMs) {
    await sleep(pauseMs);
    state = await inspectRun(directory);
  }
  if (state.running || (isInTheWay(state) && !options.killMonitor)) return;
  if (state.record && state.last) directory.writeLast(state.last);
  await removeRun(directory, new Driver(state.record?.runtime ?? runtime, directory), cgroups);
}

/** Ends whatever is there of a run, at whatever point, and removes all but the record of how the last one ended. */
export async function removeRun(directory: RunDirectory, driver: Driver, cgroups: ContainerCgroups): Promise<void> {
  // First those who could still make something: the monitor, a create in flight, the guardian.
  await cgroups.kill('monitor');
  if (driver.hasState()) await driver.delete();
  // A create that died before its first record left a process that delete knows nothing about.
  await cgroups.kill('container');
  await cgroups.remove();
  directory.clear();
}
