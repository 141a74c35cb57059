import { fstatSync } from 'node:fs';
import { LoopboxError } from '../errors';
import type { LayerFile } from '../image/layer-file';
import { removeLog } from '../runtime/logs';
import { inspectRun } from '../runtime/status';
import type { Store } from './store';
import { openTarget, type Target } from './target';

/**
 * Tells a file from another one that has its name, or its inode, later. A container of the store is the same again when its file is
 * copied back.
 */
export function identityOf({ name }: Target, { fd, manifest }: Pick<LayerFile, 'fd' | 'manifest'>): string {
  if (name !== undefined && manifest?.container !== undefined) return manifest.container;
  const { ino, birthtimeNs } = fstatSync(fd, { bigint: true });
  return `${ino} ${birthtimeNs} ${manifest?.container ?? ''}`;
}

/** Whether the last run under a target's id was of the file that is there now; undefined where that can't be told. */
export async function isOwnPast(target: Target): Promise<boolean | undefined> {
  const { last } = await inspectRun(target.directory);
  if (!last) return undefined;
  try {
    await using image = await openTarget(target);
    return last.identity === identityOf(target, image);
  } catch (error) {
    if (error instanceof LoopboxError) return undefined;
    throw error;
  }
}

/** Before a file's own start: drops record and log of another file's last run. */
export function dropOtherPast(store: Store, target: Target, identity: string): void {
  const last = target.directory.readLast();
  if (!last || last.identity === identity) return;
  target.directory.remove();
  removeLog(store.logPath(target.id));
}
