import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { constants } from 'node:os';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { LoopboxError } from '../errors';
import { packageDirectory } from '../package';
import type { RunDirectory } from './run-directory';

/** What the client ends with then (native/runtime/attach-relay.cc). */
const outputClosedCode = 128 + constants.signals.SIGPIPE;

/** Joins the caller's standard streams to a container's until the container ends. */
export interface AttachClient {
  /**
   * Resolves at the container's end (or the client's, whatever ended it), with the terminal put back as it was. `outputClosed` where
   * nobody reads any more what the container writes.
   */
  ended: Promise<{ outputClosed: boolean }>;
  /** Ends the client; the container goes on. */
  close(): Promise<void>;
}

/**
 * Starts the client (`loopbox-attach`) and returns once it is connected to the monitor. With `terminal` the caller's terminal is raw until
 * the client's end, and its size is the container's. With `stdin` the caller's input goes to the container, its end included.
 */
export async function connectAttach(options: { directory: RunDirectory; terminal: boolean; stdin: boolean }): Promise<AttachClient> {
  const { directory } = options;
  const child = spawn(
    join(packageDirectory, 'build', 'loopbox-attach'),
    [
      ['--socket', directory.attachSocket, '--ctl', directory.ctl],
      options.terminal ? ['--tty'] : [],
      options.stdin ? ['--stdin'] : [],
    ].flat(),
    { stdio: ['inherit', 'inherit', 'inherit', 'pipe'] },
  );
  const ended = exitOf(child);
  const connected = once(child.stdio[3] as Readable, 'data');
  const isConnected = await Promise.race([connected.then(() => true), ended.then(() => false)]);
  if (!isConnected) throw new LoopboxError('ERR_LOOPBOX_FAILED', `Cannot attach to "${directory.id}": the attach client could not connect`);
  return {
    ended,
    // Other signals it leaves to its parent.
    close: async () => {
      child.kill('SIGHUP');
      await ended;
    },
  };
}

async function exitOf(child: ChildProcess): Promise<{ outputClosed: boolean }> {
  const [code] = (await once(child, 'exit')) as [number | null];
  return { outputClosed: code === outputClosedCode };
}
