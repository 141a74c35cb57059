import { mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { type Chain, readBlocks } from '../image/chain';
import { createDelta, type NewDelta } from '../image/delta-file';
import { blockSize } from '../image/delta-geometry';
import { withReadOnlyFeature } from '../image/superblock';
import type { LoopDevice } from '../loop/attach-loop';
import { type StackServer, startStackServer } from '../loop/stack-server';
import type { Warn } from '../progress';
import { leaveCallersCgroups } from '../runtime/cgroups';
import { newUuid } from '../uuid';
import { requireServable } from './attach-choice';
import { ServedFiles } from './served-files';
import { requireManifest } from './snapshot-files';
import type { Store } from './store';

/**
 * Attaches a frozen chain by a storage server of its own, below a throw-away top that never has a name: a file system has to be able to
 * replay its journal. The server is nobody's: it ends, with all that it holds, with the last user of the device.
 */
export async function serveSnapshot(store: Store, chain: Chain, label: string, warn: Warn): Promise<LoopDevice> {
  requireServable(chain, `loopbox clone ${label} NEW-NAME`);
  const { state, created, config } = requireManifest(chain.top);
  const { sizeBytes } = chain;
  await using top = await createDelta(store.containersDirectory, {
    sizeBytes,
    block0: withReadOnlyFeature(await readBlocks(chain, 0, blockSize), false),
    manifest: { state: newUuid(), created, parent: { state }, config },
  });
  const { loop, controlPath } = await serveUnnamed(store, chain, top, label, warn);
  // Nobody asks it anything. Where this command dies before, the server does it at its end.
  rmSync(controlPath, { force: true });
  return loop;
}

/** Attaches a frozen chain below a top that has no name as yet, by a storage server of its own. The control socket stays until the server ends. */
export async function serveUnnamed(
  store: Store,
  chain: Chain,
  top: NewDelta,
  label: string,
  warn: Warn,
): Promise<StackServer & { controlPath: string }> {
  await using files = await ServedFiles.claimBelow(chain, top);
  mkdirSync(store.runRoot, { recursive: true, mode: 0o700 });
  const controlPath = join(store.runRoot, `.mount-${newUuid()}`);
  const server = await startStackServer({
    label,
    controlPath,
    logPath: '/dev/null',
    layers: [...files.layers],
    sizeBytes: top.manifest.sizeBytes,
    moveToCgroup: leaveCallersCgroups,
    transport: store.transport,
    warn,
  });
  return { ...server, controlPath };
}
