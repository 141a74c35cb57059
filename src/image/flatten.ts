import { join } from 'node:path';
import { LoopboxError } from '../errors';
import { tryLock } from '../flock';
import { resolveChain } from './chain';
import { copyView } from './copy-view';
import { formatFileName } from './file-names';
import { placeManifest } from './image-file';
import { type MergeContext, openOwn, scanAll } from './merge-context';
import { NewFile, syncDirectory } from './new-file';
import { type PendingFile, reclaimSteps } from './reclaim';
import { sealNewImage } from './seal';
import { settleSteps } from './settle';
import type { IndexedFile } from './state-index';
import { unlinkNeedless } from './unlink-file';
import { wholeImage } from './whole-image';

/**
 * Makes the present of a stopped container one raw image that needs no other file: by settling; where it stands on another's file by a
 * copy of all that it shows, which takes its place at once. Returns what waits, and for what. For the holder of its verb lock, after `recover`.
 */
export async function flatten(context: MergeContext): Promise<PendingFile[]> {
  const pending = new Map<string, PendingFile>();
  for await (const _ of flattenSteps(context, pending));
  return [...pending.values()];
}

/** `flatten`, a step at a time. */
export async function* flattenSteps(context: MergeContext, pending: Map<string, PendingFile>): AsyncGenerator<string> {
  yield* settleSteps(context, pending);
  const top = (await scanAll(context)).ofContainer(context.name).find(({ parsed }) => parsed?.role === 'top');
  if (!top || top.manifest.kind === 'image' || pending.size > 0) return;
  yield* copyPresent(context, top);
  yield* reclaimSteps(context, pending);
}

async function* copyPresent(context: MergeContext, top: IndexedFile): AsyncGenerator<string> {
  const { containersDirectory, name } = context;
  const all = await scanAll(context);
  await using chain = await resolveChain(await openOwn(top), all);
  if (!tryLock(chain.top.fd, 'exclusive'))
    throw new LoopboxError('ERR_LOOPBOX_IN_USE', `Cannot flatten "${name}": its disk is in use`, { path: top.path });
  await using image = await NewFile.create(containersDirectory);
  await copyView(chain.viewLayers(), image.fd, context);
  const manifest = { ...wholeImage(top.manifest), sizeBytes: chain.sizeBytes };
  const isStoodOn = all.isStoodOn(top.manifest);
  await (isStoodOn ? sealNewImage : placeManifest)(image.fd, chain.sizeBytes, manifest);
  const path = join(containersDirectory, formatFileName({ role: 'top', name, extension: 'img' }));
  await image.publish(path);
  yield 'the image is there';
  const by = (await scanAll(context)).files.find((file) => file.path === path);
  if (by) await unlinkNeedless(top, { why: 'provided', by });
  yield 'the delta is gone';
  await syncDirectory(containersDirectory);
  yield 'durably';
}
