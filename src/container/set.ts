import { CleanupStack } from '../cleanup';
import { LoopboxError } from '../errors';
import { writeManifest } from '../image/image-file';
import type { LayerFile } from '../image/layer-file';
import type { Limits } from '../image/manifest';
import type { RunRecord } from '../runtime/run-directory';
import { inspectRun } from '../runtime/status';
import { updateLimits } from '../runtime/update';
import { type Attach, chooseAttach } from './attach-choice';
import { applyConfigChange, applyLimits, type ConfigChange } from './config-input';
import { isDroppedIn, isSealed, requireOneLink, unsealDropped } from './identity';
import type { Store } from './store';
import { openTarget, resolveTarget, type Target } from './target';
import { lockTarget } from './work';

export interface SetResult {
  /** Keys that took effect in the running container. */
  live: string[];
  /** Keys that take effect at the next start. */
  nextStart: string[];
  /** What the choice of how it is attached comes to. */
  attach?: Attach;
}

/**
 * Changes a container's config, durably; limits also live where it runs. Where a live change fails, nothing is changed.
 * Throws ERR_LOOPBOX_NOT_SUPPORTED for a file without a manifest.
 */
export async function setConfig(store: Store, argument: string, change: ConfigChange): Promise<SetResult> {
  const target = resolveTarget(store, argument);
  await using _lock = await lockTarget(store, target);
  await using image = await openTarget(target, { write: true });
  if (!image.manifest) {
    throw new LoopboxError('ERR_LOOPBOX_NOT_SUPPORTED', `Cannot set "${target.label}": it has no manifest to keep a config in`, {
      hint: `loopbox import ${target.path}${target.name ? ' NEW-NAME' : ''}`,
    });
  }
  if (isSealed(image)) await prepareSealed(target, image);
  const config = applyConfigChange(image.manifest.config, change);
  const keys = changedKeys(change);
  const state = await inspectRun(target.directory);
  const live = state.running ? keys.filter((key) => limitKeys.includes(key) || keysOfSnapshots.includes(key)) : [];
  await using undo = new CleanupStack();
  if (state.running && keys.some((key) => limitKeys.includes(key))) {
    // What it runs with may differ from its config: `run FILE --memory 64M`.
    const { limits } = state.record;
    await runWith(store, target, state.record, applyLimits(limits, change));
    undo.add(() => runWith(store, target, state.record, limits));
  }
  await writeManifest(image, { ...image.manifest, config });
  undo.disarm();
  const attach = change.attach && { attach: await chooseAttach(store, image, { name: target.name, config }) };
  return { live, nextStart: state.running ? keys.filter((key) => !live.includes(key)) : [], ...attach };
}

async function runWith(store: Store, target: Target, record: RunRecord, limits: Limits): Promise<void> {
  await updateLimits(target.directory, store.runtime, limits);
  target.directory.writeRecord({ ...record, limits });
}

/** What was dropped into the store is its container's own; a FILE that is sealed stays as it is. */
async function prepareSealed(target: Target, image: LayerFile): Promise<void> {
  if (!target.byPath && isDroppedIn(image, target.name)) return unsealDropped(image, `set "${target.label}"`);
  // Others may stand on it: its config is no part of what they need.
  if (!target.byPath) return requireOneLink(image, `set "${target.label}"`);
  throw new LoopboxError('ERR_LOOPBOX_WRONG_STATE', `Cannot set "${target.label}": it is sealed`, {
    hint: `loopbox import ${target.path}`,
  });
}

const limitKeys = ['memory', 'cpus', 'pids'];
const keyOfLimit = { memoryBytes: 'memory', cpus: 'cpus', pids: 'pids' } as const;
/** What is looked up when it is wanted, whether the container runs or not. */
const keysOfSnapshots = ['hook-pre', 'hook-post', 'hook-timeout', 'settle'];
const keyOfHook = { pre: 'hook-pre', post: 'hook-post', timeoutSeconds: 'hook-timeout' } as const;

function changedKeys(change: ConfigChange): string[] {
  const { limits, environment, labels, hooks, ...rest } = change;
  return [
    ...Object.keys(limits).map((key) => keyOfLimit[key as keyof typeof keyOfLimit]),
    ...Object.keys(hooks ?? {}).map((key) => keyOfHook[key as keyof typeof keyOfHook]),
    ...(Object.keys(environment).length > 0 ? ['env'] : []),
    ...(Object.keys(labels).length > 0 ? ['label'] : []),
    ...Object.keys(rest),
  ];
}
