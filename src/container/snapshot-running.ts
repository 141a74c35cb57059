import { LoopboxError } from '../errors';
import { openLayer } from '../image/layer-file';
import type { Manifest, SnapshotHooks, SnapshotRecord } from '../image/manifest';
import { attachedTo } from '../loop/find-attached';
import type { RunRecord } from '../runtime/run-directory';
import { withHooks } from './hooks';
import { canReflink } from './reflink';
import { cloneAsSnapshot, type OwnImage } from './snapshot-direct';
import { requireManifest, runsElsewhere, snapshotPath } from './snapshot-files';
import type { SnapshotAbout, SnapshotOptions, TakenSnapshot } from './snapshot-options';
import { snapshotServed } from './snapshot-served';
import type { Store } from './store';
import { ComingFreeze, type FrozenWork } from './coming-freeze';
import type { Work } from './work';

/** Takes a snapshot of a container that runs, while its file system is frozen: a new top, or a clone of its file where no server attaches it. */
export async function snapshotRunning(
  store: Store,
  work: Work,
  run: RunRecord,
  about: SnapshotAbout,
  options: SnapshotOptions,
): Promise<TakenSnapshot> {
  const { name, target } = work;
  await using freeze = new ComingFreeze(target, run, options.signal);
  await using file = await openLayer(target.path, { label: name, write: true });
  const manifest = requireManifest(file);
  const frozen = async (inside: FrozenWork): Promise<SnapshotRecord> => {
    const context = { store, target, run, hooks: hooksFor(manifest, options), warn: options.warn, signal: options.signal };
    const { value, codes } = await withHooks(context, () => freeze.around(inside));
    const consistency = !value.held ? 'crash' : codes.pre === undefined ? 'filesystem' : 'application';
    return { ...about, consistency, frozenMs: value.frozenMs, ...(Object.keys(codes).length > 0 && { hooks: codes }) };
  };
  if (run.server) return await snapshotServed(store, work, file, about.name, frozen);

  if (!(await canReflink(store.containersDirectory))) throw needsStack(name);
  const devices = await attachedTo(file);
  if (!devices.includes(`/dev/loop${run.loop.index}`)) throw runsElsewhere(target);
  const path = snapshotPath(store, name, about.name, 'img');
  const record = await cloneAsSnapshot(store, file as OwnImage, path, frozen, options.signal);
  return { record, path, how: 'reflink' };
}

/** What the config has, and what this call says in its place. */
function hooksFor(manifest: Manifest | undefined, { pre, post }: SnapshotOptions): SnapshotHooks {
  return { ...manifest?.config.hooks, ...(pre !== undefined && { pre }), ...(post !== undefined && { post }) };
}

/** The error where nothing but a storage server could keep what a running container's file holds now. */
export function needsStack(name: string): LoopboxError {
  return new LoopboxError(
    'ERR_LOOPBOX_NOT_SUPPORTED',
    `Cannot take a snapshot of "${name}": it runs, and the host's file system has no reflinks`,
    {
      hint: `loopbox set --attach stack ${name}, and restart it; or stop it first`,
    },
  );
}
