import { LoopboxError } from '../errors';
import { isSnapshotName } from '../image/file-names';
import { checkContainerName } from './names';

/** What NAME@SNAP says; without a snapshot it is the container's present. */
export interface SnapshotArgument {
  container: string;
  snapshot: string | undefined;
}

/**
 * Takes `NAME@SNAP` apart; what has a `/` is a FILE, `@` included, and its snapshot is undefined.
 * Throws ERR_LOOPBOX_USAGE where either can't be a name.
 */
export function parseSnapshotArgument(argument: string): SnapshotArgument {
  if (argument.includes('/')) return { container: argument, snapshot: undefined };
  const at = argument.indexOf('@');
  const container = at < 0 ? argument : argument.slice(0, at);
  const snapshot = at < 0 ? undefined : argument.slice(at + 1);
  checkContainerName(container);
  if (snapshot !== undefined) checkSnapshotName(snapshot);
  return { container, snapshot };
}

/** As `parseSnapshotArgument`, for verbs about one snapshot. */
export function requireSnapshotArgument(argument: string): { container: string; snapshot: string } {
  const { container, snapshot } = parseSnapshotArgument(argument);
  if (snapshot !== undefined) return { container, snapshot };
  if (container.includes('/')) throw fileHasNoSnapshots(container);
  throw new LoopboxError('ERR_LOOPBOX_USAGE', `Cannot use "${argument}": it names no snapshot`, {
    hint: `${container}@SNAPSHOT, as \`loopbox snapshot ls -q ${container}\` prints it`,
  });
}

/** Snapshots are of containers of the store: a FILE is one state. */
export function fileHasNoSnapshots(path: string): LoopboxError {
  return new LoopboxError('ERR_LOOPBOX_USAGE', `Cannot use "${path}": snapshots are of containers of the store`, {
    hint: `loopbox import ${path}`,
  });
}

/** Throws ERR_LOOPBOX_USAGE for what can't be the name of a snapshot. */
export function checkSnapshotName(name: string): void {
  if (isSnapshotName(name)) return;
  throw new LoopboxError('ERR_LOOPBOX_USAGE', `Cannot use the snapshot name "${name}": it is not one`, {
    hint: 'use lower-case letters, digits, ".", "_" and "-", at most 63, beginning with a letter or digit',
  });
}

/** `auto-20260801-143000`, of UTC, with `-2`, `-3` … behind it where that is taken. */
export function timedSnapshotName(
  prefix: 'auto' | 'before-restore' | 'before-repair',
  now: Date,
  isTaken: (name: string) => boolean,
): string {
  const [date = '', time = ''] = now.toISOString().replace(/[-:]/g, '').split('T');
  const name = `${prefix}-${date}-${time.slice(0, 6)}`;
  for (let number = 1; ; number++) {
    const candidate = number === 1 ? name : `${name}-${number}`;
    if (!isTaken(candidate)) return candidate;
  }
}
