import { constants } from 'node:fs';
import { join } from 'node:path';
import { Descriptor } from '../descriptor';
import { LoopboxError } from '../errors';
import { type NewTop, namesOfCommit, prepareTop, sealKept, type TopCommit } from '../image/commit-top';
import { blockSize } from '../image/delta-geometry';
import { openFile, readAt } from '../image/file-io';
import type { LayerFile } from '../image/layer-file';
import type { SnapshotRecord } from '../image/manifest';
import { StackControl, type SwitchRequest } from '../loop/stack-control';
import { takeAttachmentLock } from './disk';
import { structureWaitMs, takeStructureLock } from './locks';
import { drawState, topManifest } from './replace-top';
import { requireManifest, runsElsewhere } from './snapshot-files';
import type { TakenSnapshot } from './snapshot-options';
import type { Store } from './store';
import type { FrozenWork } from './coming-freeze';
import type { Work } from './work';

/** Takes a snapshot of a container whose chain a storage server attaches. */
export async function snapshotServed(
  store: Store,
  work: Work,
  top: LayerFile,
  snapshot: string,
  frozen: (work: FrozenWork) => Promise<SnapshotRecord>,
): Promise<TakenSnapshot> {
  const { record, path } = await putTopAside(store, work, top, snapshot, frozen);
  return { record, how: 'delta', path };
}

/**
 * Gives a container whose chain a storage server attaches a new top: it is prepared beside the present, durably, and the server goes
 * over to it while the file system is frozen (`frozen` does its work around that). What was the top is called `NAME@KEPT` and is sealed.
 */
export async function putTopAside<T extends SnapshotRecord | undefined>(
  store: Store,
  { name, target, held }: Pick<Work, 'name' | 'target' | 'held'>,
  top: LayerFile,
  kept: string,
  frozen: (work: FrozenWork) => Promise<T>,
): Promise<{ record: T; path: string }> {
  const control = new StackControl(target.directory.controlPath, name);
  const { failed, layers, sizeBytes } = await control.status();
  if (failed) {
    throw new LoopboxError(
      'ERR_LOOPBOX_FAILED',
      `Cannot keep what "${name}" is now: its disk has failed, and what it wrote last may be lost`,
      {
        hint: `loopbox restart ${name}`,
      },
    );
  }
  const served = layers.at(-1);
  if (served?.device !== top.device || served.inode !== top.inode) throw runsElsewhere(target);
  const state = await drawState(top, held);
  const manifest = requireManifest(top);
  const extension = top.kind === 'image' ? 'img' : 'delta';
  const commit: TopCommit = { directory: store.containersDirectory, name, extension, kept };
  const next: NewTop = {
    ...commit,
    sizeBytes,
    parent: { state, hint: namesOfCommit(commit).kept },
    // The server copies the block once more, when nothing is written to it any more.
    block0: await readAt(top.fd, top.kind === 'image' ? 0 : top.dataOffset, blockSize),
    manifest: topManifest(manifest),
  };
  await using _lock = await takeStructureLock(store, 'shared', structureWaitMs);
  const prepared = await prepareTop(next);
  await using file = new Descriptor(await openFile(prepared.path, constants.O_RDWR | constants.O_DIRECT | constants.O_NOFOLLOW));
  await takeAttachmentLock({ fd: file.fd, path: prepared.path }, name);
  await using directory = new Descriptor(await openFile(store.containersDirectory, constants.O_RDONLY | constants.O_DIRECTORY));
  const request: SwitchRequest = {
    nextFd: file.fd,
    directoryFd: directory.fd,
    names: namesOfCommit(commit),
    mapOffset: prepared.manifest.mapOffset,
    dataOffset: prepared.manifest.dataOffset,
    ownedEnd: 1,
  };
  const record = await frozen({ body: async () => void (await control.switchTop(request)) });
  await sealKept(commit, record, held);
  if (top.kind === 'image') await control.unguard();
  return { record, path: join(store.containersDirectory, namesOfCommit(commit).kept) };
}
