import { explaining } from '../errors';
import type { MergeContext } from '../image/merge-context';
import { reclaim } from '../image/reclaim';
import { settle } from '../image/settle';
import type { WorkOptions } from '../progress';
import { inspectRun } from '../runtime/status';
import { MiB } from '../units';
import { dutyOf } from './duty';
import { mergeContext } from './merge';
import { requireStopped } from './require-stopped';
import type { Store } from './store';
import { namedTarget } from './target';
import { takeUnaskedLock } from './unasked';
import { workOn } from './work';

/**
 * Does what is to be done with a container's files, while nobody wants the container: in batches so small, and pauses so long, that no
 * other command has to wait. A start ends it (ERR_LOOPBOX_WRONG_STATE); of a container that runs, only what has no name is merged.
 */
export function mergeUnasked(store: Store, name: string, options: WorkOptions = {}): Promise<void> {
  return explaining(`merge the files of "${name}"`, async () => {
    await using lock = await takeUnaskedLock(namedTarget(store, name).verbLockPath);
    if (!lock) return;
    await using work = await workOn(store, name, verb, options.signal);
    const duty = dutyOf(work.files, name);
    if (duty === undefined) return;
    if ((await inspectRun(work.target.directory)).running) {
      await reclaim(paced(mergeContext(store, work, options, undefined, pauseMs)));
      return;
    }
    await requireStopped(store, work.target, verb);
    const merge = duty === 'settle' ? settle : reclaim;
    for (let attempt = 0; attempt < attempts; attempt++) {
      const pending = await merge(paced(mergeContext(store, work, options, verb, pauseMs)));
      if (pending.length === 0) return;
      await work.pause(inTheWayMs);
      await requireStopped(store, work.target, verb);
    }
  });
}

/** What is in the way may be a command that looks at all files, or the storage server of a container that ended just now. */
const attempts = 5;
const inTheWayMs = 1000;

const verb = 'merge the files of';

/** How long a batch may hold the verb lock, about; and how long the lock is free then. */
const batchMs = 120;
const pauseMs = 100;
const [leastBytes, mostBytes] = [4 * MiB, 16 * MiB];

/** Batches are as large as this host moves in that time. */
function paced(context: MergeContext): MergeContext {
  let bytes = leastBytes;
  let begun = performance.now();
  return {
    ...context,
    get batchBytes() {
      return bytes;
    },
    pause: async () => {
      const tookMs = performance.now() - begun;
      if (tookMs > batchMs) bytes = Math.max(leastBytes, bytes / 2);
      else if (tookMs < batchMs / 2) bytes = Math.min(mostBytes, bytes * 2);
      await context.pause();
      begun = performance.now();
    },
  };
}
