import { LoopboxError } from '../errors';
import { StackControl } from '../loop/stack-control';
import { isAlive } from '../runtime/processes';
import type { RunRecord } from '../runtime/run-directory';
import type { Target } from './target';

/** What may be wrong with the disk of a container that runs: its words in `ls`. */
export type StorageTrouble = 'host full' | 'disk failed' | 'storage server lost';

/** The control socket of the storage server that a run hangs on; undefined where its disk is attached directly. */
export function storageControl({ directory, label }: Target, { server }: Pick<RunRecord, 'server'>): StackControl | undefined {
  return server && new StackControl(directory.controlPath, label);
}

/** Whether the disk of a container that runs is in trouble. `disk failed`: a flush has failed, so that what was written may be lost. */
export async function storageTrouble(
  target: Target,
  record: Pick<RunRecord, 'pid' | 'pidStart' | 'server'>,
): Promise<StorageTrouble | undefined> {
  const control = storageControl(target, record);
  if (!control) return undefined;
  try {
    const { held, failed } = await control.status();
    return held ? 'host full' : failed ? 'disk failed' : undefined;
  } catch (error) {
    if (!(error instanceof LoopboxError)) throw error;
    // It ends as the container does, and after that; whoever looks just then loses nothing.
    const isLost = record.server && !isAlive(record.server) && isAlive({ pid: record.pid, start: record.pidStart });
    return isLost ? 'storage server lost' : undefined;
  }
}

/**
 * Throws ERR_LOOPBOX_NO_SPACE where a container can't end because its writes wait for space on the host: what then is to be done is for the admin
 * to choose.
 */
export async function requireSpaceToStop(target: Target, record: RunRecord): Promise<void> {
  if ((await storageTrouble(target, record)) !== 'host full') return;
  throw new LoopboxError(
    'ERR_LOOPBOX_NO_SPACE',
    `Cannot stop "${target.label}": its writes wait for space on the host, and it goes on when there is some`,
    { hint: `free space (loopbox df), or give up the writes that wait: loopbox stop --drop-held ${target.label}`, path: target.path },
  );
}
