import type { Chain } from '../image/chain';
import type { LayerFile } from '../image/layer-file';
import type { ScanOptions } from '../image/state-index';
import { claimImage, takeSharedLock } from './disk';
import { openChain } from './open-chain';
import type { Store } from './store';
import type { Target } from './target';

/**
 * Claims a present that another top is to take the place of, or that gets another name: for this command alone, or shared where it is sealed. Nothing is
 * written to its disk then, and a container that stands on it may run.
 */
export function claimPresent(top: LayerFile): Promise<void> {
  return claimImage(top, top.manifest?.sealed ? 'shared' : 'exclusive');
}

/**
 * Opens all files of a present that is to be changed, whole image or chain, and claims them for as long as they are open: the top as `claimPresent`,
 * what is below shared. Throws ERR_LOOPBOX_IN_USE, and as `openChain`.
 */
export async function openPresent(
  store: Store,
  { path, label }: Pick<Target, 'path' | 'label'>,
  options: Pick<ScanOptions, 'signal' | 'held'> = {},
): Promise<Chain> {
  const chain = await openChain(store, { path, label }, { write: true, ...options });
  try {
    await claimPresent(chain.top);
    for (const layer of chain.layers.slice(0, -1)) await takeSharedLock(layer);
    return chain;
  } catch (error) {
    await chain.close();
    throw error;
  }
}
