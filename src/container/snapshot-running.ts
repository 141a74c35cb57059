import { LoopboxError } from '../errors';
import { openLayer } from '../image/layer-file';
import type { SnapshotRecord } from '../image/manifest';
import { attachedTo } from '../loop/find-attached';
import { Freezer } from '../runtime/freeze';
import type { RunRecord } from '../runtime/run-directory';
import { attachOf } from './attach-choice';
import { canReflink } from './reflink';
import type { SnapshotOptions, TakenSnapshot } from './snapshot-create';
import { cloneAsSnapshot, type OwnImage } from './snapshot-direct';
import { requireManifest, snapshotPath } from './snapshot-files';
import type { Store } from './store';
import type { Work } from './work';

/** What a snapshot is to say, but for how it was taken. */
export type SnapshotAbout = Pick<SnapshotRecord, 'name' | 'created' | 'description'>;

/** Takes a snapshot of a container that runs: its file system is synced, frozen, its file cloned, and thawed. */
export async function snapshotRunning(
  store: Store,
  { name, target }: Work,
  run: RunRecord,
  about: SnapshotAbout,
  options: SnapshotOptions,
): Promise<TakenSnapshot> {
  await using image = await openLayer(target.path, { label: name });
  if (attachOf(requireManifest(image)) === 'stack' || !(await canReflink(store.containersDirectory))) throw needsStack(name);
  const devices = await attachedTo(image.device, image.inode);
  if (!devices.includes(`/dev/loop${run.loop.index}`)) {
    throw new LoopboxError('ERR_LOOPBOX_IN_USE', `Cannot take a snapshot of "${name}": it runs from another file than "${target.path}"`, {
      path: target.path,
    });
  }
  await using freezer = await Freezer.prepare(target.directory, run, options.signal);
  const path = snapshotPath(store, name, about.name, 'img');
  const frozen = async (body: () => Promise<void>): Promise<SnapshotRecord> => {
    await freezer.sync();
    await freezer.freeze();
    await body();
    const { frozenMs, held } = await freezer.thaw();
    return { ...about, consistency: held ? 'filesystem' : 'crash', frozenMs: Math.round(frozenMs * 10) / 10 };
  };
  const record = await cloneAsSnapshot(store, image as OwnImage, path, frozen, options.signal);
  return { record, path, how: 'reflink' };
}

function needsStack(name: string): LoopboxError {
  return new LoopboxError(
    'ERR_LOOPBOX_NOT_SUPPORTED',
    `Cannot take a snapshot of "${name}": it runs, and the host's file system has no reflinks`,
    {
      hint: `loopbox set --attach stack ${name}, and restart it; or stop it first`,
    },
  );
}
