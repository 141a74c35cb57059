import { dirname } from 'node:path';
import { CleanupStack } from '../cleanup';
import { LoopboxError } from '../errors';
import { Chain } from '../image/chain';
import { parseFileName } from '../image/file-names';
import type { LayerFile } from '../image/layer-file';
import type { ScanOptions } from '../image/state-index';
import { attachGuard } from '../loop/stack-server';
import type { Transport } from '../loop/transports';
import type { Warn } from '../progress';
import { ContainerCgroups } from '../runtime/cgroups';
import { chooseAttach, requireServable } from './attach-choice';
import { claimImage, Disk } from './disk';
import { openChain } from './open-chain';
import { ServedFiles } from './served-files';
import type { Store } from './store';
import type { Target } from './target';

/** The open files of a present, claimed for one attachment: by their own descriptors, or by those that a storage server is going to keep. */
export interface ClaimedPresent extends AsyncDisposable {
  chain: Chain;
  /** Missing where the kernel's loop device alone attaches it. */
  served?: ServedFiles;
}

/** Opens and claims a container's files for a start. ERR_LOOPBOX_IN_USE where they are attached or copied elsewhere; else as `openChain`. */
export async function openToStart(store: Store, target: Target, options: Pick<ScanOptions, 'signal' | 'held'>): Promise<ClaimedPresent> {
  await using cleanup = new CleanupStack();
  const chain = cleanup.use(await openChain(store, target, { write: true, signal: options.signal, held: options.held }));
  if (chain.top.kind === 'delta' && target.name === undefined) throw notOfStore(target);
  if ((await chooseAttach(store, chain.top, target)) === 'direct') {
    await claimImage(chain.top, 'exclusive');
    cleanup.disarm();
    return { chain, [Symbol.asyncDispose]: () => chain.close() };
  }
  requireServable(chain, `loopbox set --attach direct ${target.label}`);
  const isOwn = ({ path }: LayerFile) =>
    dirname(path) === store.containersDirectory && parseFileName(path.slice(dirname(path).length + 1))?.name === target.name;
  const served = await ServedFiles.claim(chain, isOwn);
  cleanup.disarm();
  const close = async () => {
    await served.close();
    await chain.close();
  };
  return { chain, served, [Symbol.asyncDispose]: close };
}

/** A present of one image whose attachment lock the caller holds on its descriptor. */
export function singleImage(image: LayerFile): ClaimedPresent {
  return { chain: new Chain([image], undefined), [Symbol.asyncDispose]: () => image.close() };
}

/** Attaches and mounts a claimed present; by its storage server with this transport. */
export async function attachPresent(
  target: Target,
  { chain, served }: ClaimedPresent,
  { transport, warn }: { transport: Transport; warn: Warn },
): Promise<Disk> {
  const { image, sizeBytes } = chain;
  if (!served) {
    const { fd, superblock } = image;
    return Disk.attach({ fd, sizeBytes, blockSize: superblock.blockSize }, { name: target.label, warn });
  }
  const { directory } = target;
  directory.prepare();
  const cgroups = new ContainerCgroups(directory.cgroupParent);
  const [bottom] = served.layers;
  // Stock tools know nothing of locks; a sealed image's `read-only` feature stops them, on another one the guard does.
  const guard = image.superblock.readOnly || !bottom ? undefined : await attachGuard({ fd: bottom.fd, label: target.label, sizeBytes });
  try {
    return await Disk.serve({
      label: target.label,
      controlPath: directory.controlPath,
      logPath: directory.serverLogPath,
      layers: [...served.layers],
      sizeBytes,
      guardFd: guard?.fd,
      transport,
      moveToCgroup: (pid) => cgroups.moveToServer(pid),
      warn,
    });
  } finally {
    await guard?.close();
  }
}

function notOfStore({ label, path }: Target): LoopboxError {
  return new LoopboxError(
    'ERR_LOOPBOX_NOT_SUPPORTED',
    `Cannot run "${label}": it is a delta, which only runs as a container of the store`,
    {
      path,
      hint: `loopbox run --ephemeral ${label}, or loopbox import ${label}`,
    },
  );
}
