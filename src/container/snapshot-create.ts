import { explaining } from '../errors';
import type { SnapshotRecord } from '../image/manifest';
import { inspectRun } from '../runtime/status';
import { chooseAttach } from './attach-choice';
import { openPresent } from './claim-chain';
import { replaceStoppedTop } from './replace-top';
import { requireStopped } from './require-stopped';
import { copyAsSnapshot, type OwnImage } from './snapshot-direct';
import { requireFreeSnapshotName, requireManifest, snapshotNames, snapshotPath } from './snapshot-files';
import { fileHasNoSnapshots, parseSnapshotArgument, timedSnapshotName } from './snapshot-names';
import type { CreatedSnapshot, SnapshotOptions, TakenSnapshot } from './snapshot-options';
import { snapshotRunning } from './snapshot-running';
import type { Store } from './store';
import { type Work, workOn } from './work';

/**
 * Takes a snapshot of a container, running or stopped; named `auto-TIME` where the argument names none. Throws ERR_LOOPBOX_EXISTS for a name
 * that is taken, and ERR_LOOPBOX_NOT_SUPPORTED where a running one's host has no reflinks.
 */
export function createSnapshot(store: Store, argument: string, options: SnapshotOptions): Promise<CreatedSnapshot> {
  return explaining(`take the snapshot "${argument}"`, () => create(store, argument, options));
}

async function create(store: Store, argument: string, options: SnapshotOptions): Promise<CreatedSnapshot> {
  const { container, snapshot } = parseSnapshotArgument(argument);
  if (container.includes('/')) throw fileHasNoSnapshots(container);
  await using work = await workOn(store, container, 'snapshot', options.signal);
  const created = new Date();
  if (snapshot !== undefined) requireFreeSnapshotName(work.files, container, snapshot);
  const taken = snapshotNames(work.files, container);
  const name = snapshot ?? timedSnapshotName('auto', created, (candidate) => taken.has(candidate));
  const about = { name, created: created.toISOString(), ...(options.description !== undefined && { description: options.description }) };
  const state = await inspectRun(work.target.directory);
  const { record, how, path } = state.running
    ? await snapshotRunning(store, work, state.record, about, options)
    : await snapshotStopped(store, work, { ...about, consistency: 'stopped' }, options);
  return { ...record, name: `${container}@${name}`, container, snapshot: name, path, how };
}

async function snapshotStopped(store: Store, work: Work, record: SnapshotRecord, options: SnapshotOptions): Promise<TakenSnapshot> {
  const { target, name, files } = work;
  if (options.pre !== undefined || options.post !== undefined) options.warn(`"${name}" does not run: no hooks are run`);
  await requireStopped(store, target, 'take a snapshot of');
  await using present = await openPresent(store, target, { signal: options.signal, held: work.held });
  const manifest = requireManifest(present.top);
  if ((await chooseAttach(store, present.top, { name })) === 'stack') {
    await replaceStoppedTop(store, { name, present, kept: record.name, record, held: work.held });
    return { record, how: 'delta', path: snapshotPath(store, name, record.name, present.top.kind === 'image' ? 'img' : 'delta') };
  }
  const isStoodOn = files.index.isStoodOn(manifest);
  const path = snapshotPath(store, name, record.name, 'img');
  return { record, path, how: await copyAsSnapshot(store, present.image as OwnImage, path, record, { ...options, isStoodOn }) };
}
