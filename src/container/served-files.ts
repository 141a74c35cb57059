import { constants } from 'node:fs';
import { Descriptor } from '../descriptor';
import { isSystemError, LoopboxError } from '../errors';
import type { Chain } from '../image/chain';
import type { NewDelta } from '../image/delta-file';
import { openFile } from '../image/file-io';
import type { LayerFile } from '../image/layer-file';
import type { ServedLayer } from '../loop/stack-server';
import { claimImage } from './disk';
import type { LockKind } from './locks';

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
        await files.#claim(
          layer,
          chain,
          isTop ? topFlags : isOwn(layer) ? constants.O_RDWR : constants.O_RDONLY,
          isTop ? 'exclusive' : 'shared',
        );
      }
      return files;
    } catch (error) {
      await files.close();
      throw error;
    }
  }

  /** The files of a state that is only looked at, all shared, below a top that has no name and ends with the server. Errors as of `claimImage`. */
  static async claimBelow(chain: Chain, top: NewDelta): Promise<ServedFiles> {
    const files = new ServedFiles();
    try {
      for (const layer of chain.layers) await files.#claim(layer, chain, constants.O_RDONLY, 'shared');
      const { sizeBytes, mapOffset, dataOffset } = top.manifest;
      const { fd } = await files.#open({ fd: top.file.fd, label: chain.top.label, path: chain.top.path }, topFlags);
      files.#layers.push({ kind: 'delta', fd, sizeBytes, mapOffset, dataOffset });
      return files;
    } catch (error) {
      await files.close();
      throw error;
    }
  }

  async #claim(layer: LayerFile, chain: Chain, access: number, kind: LockKind): Promise<void> {
    const { fd } = await this.#open(layer, access);
    await claimImage(layer, kind, fd);
    this.#layers.push({ kind: layer.kind, fd, sizeBytes: layer.sizeBytes, ...placesOf(layer, chain) });
  }

  async #open(file: Pick<LayerFile, 'fd' | 'label' | 'path'>, access: number): Promise<Descriptor> {
    const opened = await reopen(file, access);
    this.#files.push(opened);
    return opened;
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
async function reopen(layer: Pick<LayerFile, 'fd' | 'label' | 'path'>, access: number): Promise<Descriptor> {
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
