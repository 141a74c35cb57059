import { constants, open } from 'node:fs';
import { promisify } from 'node:util';
import { Descriptor } from '../descriptor';
import { isSystemError, LoopboxError } from '../errors';
import type { Chain } from '../image/chain';
import type { LayerFile } from '../image/layer-file';
import type { ServedLayer } from '../loop/stack-server';
import { claimImage } from './disk';

const openFile = promisify(open);

/**
 * The files of a chain as a storage server is given them: open file descriptions of their own, each with its attachment lock, which the
 * server then keeps. The top's goes past the page cache; the others' go through it, because clones have them in common.
 */
export class ServedFiles implements AsyncDisposable {
  readonly #files: Descriptor[] = [];
  readonly #layers: ServedLayer[] = [];

  /**
   * Opens and claims them: the top for this attachment alone, what is below shared. `isOwn` tells the files that may later be merged
   * by the server's descriptor, because a write lease allows no second one. Errors as of `claimImage`.
   */
  static async claim(chain: Chain, isOwn: (layer: LayerFile) => boolean): Promise<ServedFiles> {
    const files = new ServedFiles();
    try {
      for (const layer of chain.layers) {
        const isTop = layer === chain.top;
        const file = await reopen(layer, isTop ? topFlags : isOwn(layer) ? constants.O_RDWR : constants.O_RDONLY);
        files.#files.push(file);
        await claimImage(layer, isTop ? 'exclusive' : 'shared', file.fd);
        files.#layers.push({ kind: layer.kind, fd: file.fd, sizeBytes: layer.sizeBytes, ...placesOf(layer, chain) });
      }
      return files;
    } catch (error) {
      await files.close();
      throw error;
    }
  }

  get layers(): readonly ServedLayer[] {
    return this.#layers;
  }

  async close(): Promise<void> {
    for (const file of this.#files) await file.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

const topFlags = constants.O_RDWR | constants.O_DIRECT;

/** Where the map and the data are, and from which block on the map counts. */
function placesOf(layer: LayerFile, { fold }: Chain): Pick<ServedLayer, 'mapOffset' | 'dataOffset' | 'firstBlock'> {
  if (layer.kind === 'image') return { mapOffset: 0, dataOffset: 0, firstBlock: 0 };
  return { mapOffset: layer.mapOffset, dataOffset: layer.dataOffset, firstBlock: layer === fold?.source ? fold.cursor : 0 };
}

/** The file itself, whatever its name leads to by now. */
async function reopen(layer: LayerFile, access: number): Promise<Descriptor> {
  try {
    return new Descriptor(await openFile(`/proc/self/fd/${layer.fd}`, access | constants.O_NONBLOCK));
  } catch (error) {
    if (!isSystemError(error, 'EINVAL')) throw error;
    throw new LoopboxError('ERR_LOOPBOX_NOT_SUPPORTED', `Cannot attach "${layer.label}": its file system has no direct I/O`, {
      path: layer.path,
      cause: error,
    });
  }
}
