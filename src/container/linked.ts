import { basename } from 'node:path';
import { type Chain, readBlocks } from '../image/chain';
import { createDelta } from '../image/delta-file';
import { blockSize } from '../image/delta-geometry';
import { formatFileName } from '../image/file-names';
import type { Manifest } from '../image/manifest';
import { withReadOnlyFeature } from '../image/superblock';
import { newUuid } from '../uuid';
import { requireServable } from './attach-choice';
import { growLinked } from './grow-linked';
import { structureWaitMs, takeStructureLock } from './locks';
import type { Store } from './store';

/**
 * Makes the container NAME an empty delta on a state whose files the caller has locked, with ids of its own, and returns its path. Its file
 * system gets an identity of its own at the first start, unless it keeps that of what it stands on. It is grown where `sizeBytes` is more than that has.
 */
export async function publishLinked(
  store: Store,
  name: string,
  on: Chain,
  content: Pick<Manifest, 'config' | 'template'>,
  options: { keepIdentity?: boolean; sizeBytes?: number; signal?: AbortSignal | undefined } = {},
): Promise<string> {
  requireServable(on, 'make it without --linked');
  const { manifest, path: parentPath } = on.top;
  if (!manifest) throw new Error(`publishLinked: "${parentPath}" has no manifest`);
  const { sizeBytes = on.sizeBytes } = options;
  await using delta = await createDelta(store.containersDirectory, {
    sizeBytes,
    block0: withReadOnlyFeature(await readBlocks(on, 0, blockSize), false),
    manifest: {
      container: newUuid(),
      state: newUuid(),
      name,
      created: new Date().toISOString(),
      parent: { state: manifest.state, hint: basename(parentPath) },
      ...(!options.keepIdentity && { identity: 'pending' }),
      ...content,
    },
  });
  if (sizeBytes > on.sizeBytes) await growLinked(store, on, delta, name, options.signal);
  options.signal?.throwIfAborted();
  await using _lock = await takeStructureLock(store, 'shared', structureWaitMs);
  const path = `${store.containersDirectory}/${formatFileName({ role: 'top', name, extension: 'delta' })}`;
  await delta.file.publish(path);
  return path;
}
