import { LoopboxError } from '../errors';
import type { HeldFiles } from '../image/held-files';
import type { Warn } from '../progress';
import { inspectRun } from '../runtime/status';
import { openChain } from './open-chain';
import { findSnapshot } from './snapshot-files';
import { parseSnapshotArgument } from './snapshot-names';
import type { Store } from './store';
import { resolveTarget } from './target';
import { lockTarget, workOn } from './work';

/**
 * The absolute paths of the files that make up a state, itself first: the present of a container or FILE, or a snapshot. Throws
 * ERR_LOOPBOX_WRONG_STATE while blocks of one of them are being merged into another, ERR_LOOPBOX_CORRUPT where one is missing.
 */
export async function filesOf(store: Store, argument: string, warn: Warn): Promise<string[]> {
  const { container, snapshot } = parseSnapshotArgument(argument);
  if (snapshot !== undefined) {
    await using work = await workOn(store, container, 'list files of');
    return await pathsOf(store, findSnapshot(work.files, container, snapshot).path, argument, work.held);
  }
  const target = resolveTarget(store, container);
  await using lock = await lockTarget(store, target);
  if ((await inspectRun(target.directory)).running) {
    warn(`"${argument}" is running: a copy of its files is what a power cut would leave`);
  }
  return await pathsOf(store, target.path, argument, lock.held);
}

async function pathsOf(store: Store, path: string, label: string, held?: HeldFiles): Promise<string[]> {
  await using chain = await openChain(store, { path, label }, { held });
  // The seal of what a merge writes to has no checksum.
  const isMerging = chain.layers.some(({ kind, manifest }) => {
    const checksum = kind === 'image' ? manifest?.sealed?.superblockCrc32c : manifest?.sealed?.mapCrc32c;
    return manifest?.fold !== undefined || (manifest?.sealed !== undefined && checksum === undefined);
  });
  if (chain.fold || isMerging) {
    throw new LoopboxError('ERR_LOOPBOX_WRONG_STATE', `Cannot list the files of "${label}": they are being merged`, {
      hint: `loopbox settle ${label.replace(/@.*/, '')}, or try again later`,
    });
  }
  return chain.layers.map((layer) => layer.path).reverse();
}
