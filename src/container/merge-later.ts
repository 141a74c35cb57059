import { ContainerCgroups, leaveCallersCgroups } from '../runtime/cgroups';
import { inspectRun } from '../runtime/status';
import { dutyOf } from './duty';
import type { Store } from './store';
import { StoreFiles } from './store-files';
import { namedTarget } from './target';
import { isMergedUnasked } from './unasked';

export interface MergeLaterOptions {
  /** The argv of `settle --unasked`, without the name. */
  command: string[];
  /** Leaves those alone that run, or whose config says `settle: never`. */
  atRest: boolean;
}

/**
 * Leaves what is to be merged of some containers' files to a process of its own for each, of the lowest priority, which may be killed at any
 * time. Nothing is started where nothing is to be done, or somebody is at it.
 */
export async function mergeLater(store: Store, names: string[], { command, atRest }: MergeLaterOptions): Promise<void> {
  const files = await StoreFiles.scan(store);
  for (const name of names) {
    const { verbLockPath, directory } = namedTarget(store, name);
    if (dutyOf(files, name) === undefined || isMergedUnasked(verbLockPath)) continue;
    const { running } = await inspectRun(directory);
    if (atRest && (running || files.top(name)?.manifest.config.settle === 'never')) continue;
    const pid = await spawnIdle([...command, name]);
    if (pid === undefined) continue;
    // Not with the session of a caller who goes.
    if (running) new ContainerCgroups(directory.cgroupParent).moveToMonitor(pid);
    else leaveCallersCgroups(pid);
  }
}

/** Undefined where the host lacks the programs that it takes: then it is left to the next command. */
async function spawnIdle(command: string[]): Promise<number | undefined> {
  // Loaded here: it costs 2 ms.
  const { spawn } = await import('node:child_process');
  const child = spawn('ionice', ['-c', '3', 'nice', '-n', '19', ...command], {
    detached: true,
    cwd: '/',
    stdio: 'ignore',
    env: { PATH: process.env.PATH },
  });
  child.once('error', () => {});
  child.unref();
  return child.pid;
}
