import { ContainerCgroups } from '../runtime/cgroups';
import { inspectRun } from '../runtime/status';
import { pendingOf } from './container-files';
import type { Store } from './store';
import { StoreFiles } from './store-files';
import { namedTarget } from './target';

/**
 * Leaves what is to be merged of a container's files to a process of its own, of the lowest priority, which may be killed at any time.
 * `command` is its argv. Nothing is started where nothing is pending.
 */
export async function reclaimLater(store: Store, name: string, command: string[]): Promise<void> {
  const files = await StoreFiles.scan(store);
  if (files.ofContainer(name).every((file) => pendingOf(files, file) === undefined)) return;
  // Loaded here: it costs 2 ms.
  const { spawn } = await import('node:child_process');
  const child = spawn('ionice', ['-c', '3', 'nice', '-n', '19', ...command], {
    detached: true,
    cwd: '/',
    stdio: 'ignore',
    env: { PATH: process.env.PATH },
  });
  // Without these programs it is left to the next command.
  child.once('error', () => {});
  child.unref();
  const { directory } = namedTarget(store, name);
  if (child.pid === undefined || !(await inspectRun(directory)).running) return;
  // Not with the session of a caller who goes.
  new ContainerCgroups(directory.cgroupParent).moveToMonitor(child.pid);
}
