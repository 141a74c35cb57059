import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { packageDirectory } from '../package';

/** A process, told from a later owner of its number by its start time. */
interface Watched {
  pid: number;
  start: number;
}

export interface StorageWatcherOptions {
  /** The storage server's keeper. */
  keeper: Watched;
  /** The container's first process. */
  init: Watched;
  /** The file that is made where the container has lost its storage, before it is killed. */
  markPath: string;
  /** The server's control socket, which it takes away where it ends because its work is done. */
  controlPath: string;
  /** cgroup.procs of the container's cgroup. */
  processesFile: string;
  /** What is written where, to thaw the container's cgroup: what is frozen does not die. */
  thaw?: { path: string; value: string } | undefined;
  moveToCgroup: (pid: number) => void;
}

/**
 * Starts the watcher beside a container on a storage server, in a session of its own. It ends with the container; where the storage server
 * ends first, it kills the container, which is never to go on on a dead disk.
 */
export function startStorageWatcher(options: StorageWatcherOptions): void {
  const { keeper, init, thaw } = options;
  const child = spawn(
    join(packageDirectory, 'build/loopbox-server'),
    [
      ['--watch', '--keeper', `${keeper.pid}:${keeper.start}`, '--init', `${init.pid}:${init.start}`],
      ['--mark', options.markPath, '--control', options.controlPath, '--processes', options.processesFile],
      thaw ? ['--thaw', `${thaw.path}:${thaw.value}`] : [],
    ].flat(),
    { detached: true, cwd: '/', env: {}, stdio: 'ignore' },
  );
  child.once('error', () => {});
  child.unref();
  if (child.pid !== undefined) options.moveToCgroup(child.pid);
}
