import { existsSync } from 'node:fs';
import { LoopboxError } from '../errors';
import { type LogLine, readLogs } from '../runtime/logs';
import { inspectRun } from '../runtime/status';
import { isOwnPast } from './past';
import type { Store } from './store';
import { resolveRun } from './target';

export interface LogOptions {
  /** Only the last lines; all unless told. */
  lines?: number | undefined;
  /** Goes on until the container has ended. */
  follow: boolean;
  signal?: AbortSignal | undefined;
}

/** What the container's command has written, oldest first. Nothing where it never ran. */
export async function* containerLogs(store: Store, argument: string, options: LogOptions): AsyncGenerator<LogLine> {
  const target = resolveRun(store, argument);
  const path = store.logPath(target.id);
  if (!existsSync(path) && !options.follow) return;
  // Of another file, which had this one's name or inode.
  if ((await isOwnPast(target)) === false) return;
  yield* readLogs(path, {
    lines: options.lines,
    signal: options.signal,
    ...(options.follow && { follow: async () => (await inspectRun(target.directory)).running }),
  });
}

/** Throws ERR_LOOPBOX_USAGE for what is no number of lines. */
export function parseLineCount(text: string): number {
  if (/^\d{1,9}$/.test(text)) return Number(text);
  throw new LoopboxError('ERR_LOOPBOX_USAGE', `Cannot show "${text}" lines: it is not a whole number`);
}
