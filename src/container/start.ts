import { CleanupStack } from '../cleanup';
import { LoopboxError } from '../errors';
import { checkFileSystem, replayJournal } from '../image/check-filesystem';
import type { HeldFiles } from '../image/held-files';
import { writeManifest } from '../image/image-file';
import { type LayerFile, openLayer } from '../image/layer-file';
import { type Config, defaultConfig } from '../image/manifest';
import { ownBlock0 } from '../image/own-block0';
import { giveNewIdentity } from '../mount/identity';
import type { Mount } from '../mount/mount-image';
import type { Warn } from '../progress';
import { reapRun } from '../runtime/reap';
import type { RunRecord } from '../runtime/run-directory';
import { startContainer as startRuntime } from '../runtime/start-container';
import { attachPresent, type ClaimedPresent, openToStart } from './attach-present';
import { applyConfigChange, type ConfigChange } from './config-input';
import { containerSpec } from './container-spec';
import { adoptFile } from './identity';
import { keepStateOfOthers } from './keep-state';
import { dropOtherPast, identityOf } from './past';
import { requireStopped } from './require-stopped';
import { ensureReserve } from './reserve';
import { watchStorage } from './storage-watch';
import type { Store } from './store';
import { resolveTarget, type Target } from './target';
import { lockTarget } from './work';

export interface StartOptions {
  signal?: AbortSignal | undefined;
  warn: Warn;
  /** What was read of the container's files since its verb lock is held. */
  held?: HeldFiles | undefined;
  /** Changes of the config for this run only. */
  change?: ConfigChange;
  terminal?: boolean;
  stdin?: boolean;
  /** Called between the runtime's create and start: the attach client connects here and misses nothing. */
  beforeStart?: () => Promise<void>;
  /** Run by the monitor after the container's end, in place of the runtime's own removal. */
  exitCommand?: string[] | undefined;
}

/**
 * Starts the container NAME or FILE, detached, and returns once its command runs.
 * Throws ERR_LOOPBOX_WRONG_STATE where it runs already, ERR_LOOPBOX_IN_USE where its file is attached or copied elsewhere.
 * After a failure, whoever is killed, nothing stays attached, mounted or locked.
 */
export async function startContainer(store: Store, argument: string, options: StartOptions): Promise<RunRecord> {
  const target = resolveTarget(store, argument);
  await using lock = await lockTarget(store, target, options.signal);
  return await startLocked(store, target, { ...options, held: lock.held });
}

/** As `startContainer`, for a caller that holds the verb lock. */
export async function startLocked(store: Store, target: Target, options: StartOptions): Promise<RunRecord> {
  await requireStopped(store, target, 'start');
  await keepStateOfOthers(store, target, options);
  await using present = await openToStart(store, target, options);
  return await startPresent(store, target, present, options);
}

/** Starts the container in a present whose files the caller has claimed. */
export async function startPresent(store: Store, target: Target, present: ClaimedPresent, options: StartOptions): Promise<RunRecord> {
  await using undo = new CleanupStack();
  await using cleanup = new CleanupStack();
  const { top } = present.chain;
  for (const key of top.ignored) options.warn(`"${target.label}" asks for "${key}", which no file can grant: ignored`);
  if (target.byPath) await checkStrangersFile(store, top, options.signal);
  const adoption = await adoptFile(store, target, top, options.warn);
  if (top.kind === 'delta') await ownBlock0(present.chain);
  options.signal?.throwIfAborted();

  if (present.served) undo.add(() => reapRun(target.directory, store.runtime));
  const disk = cleanup.use(await attachPresent(target, present, { ...options, transport: store.transport }));
  const config = effectiveConfig(top, options.change);
  const hostname = config.hostname ?? target.name ?? top.manifest?.name ?? 'loopbox';
  if (adoption?.newIdentity) await renewIdentity(disk.mount, hostname, target.label, options.warn);
  const about = { label: target.label, terminal: options.terminal ?? false, warn: options.warn };
  const { spec, stopSignal } = await containerSpec(disk.mount.tree, { ...config, hostname }, about);
  if (adoption) await writeManifest(top, adoption.manifest);
  const identity = identityOf(target, top);
  dropOtherPast(store, target, identity);
  options.signal?.throwIfAborted();

  const record = await startRuntime({
    directory: target.directory,
    runtime: store.runtime,
    logPath: store.logPath(target.id),
    mountFd: disk.mount.fd,
    spec,
    record: {
      id: target.id,
      file: target.path,
      identity,
      label: target.label,
      loop: { index: disk.loop.index, diskSequence: disk.loop.diskSequence },
      ...(disk.server && { server: { pid: disk.server.pid, start: disk.server.pidStart } }),
      stopSignal,
      limits: config.limits,
    },
    stdin: options.stdin ?? false,
    beforeStart: async () => {
      watchStorage(target.directory);
      await options.beforeStart?.();
    },
    releaseDisk: () => disk.close(),
    exitCommand: options.exitCommand,
    signal: options.signal,
  });
  if (!target.byPath && top.manifest && !top.manifest.started) {
    await writeManifest(top, { ...top.manifest, started: record.startedAt });
  }
  undo.disarm();
  // What it writes may have to wait for space; verbs that make some must not.
  if (disk.server && !target.byPath) await ensureReserve(store);
  return record;
}

/** A new identity is durable before the manifest says that there is one. */
async function renewIdentity(mount: Mount, hostname: string, label: string, warn: Warn): Promise<void> {
  const { hasNewUuid } = await giveNewIdentity(mount, { hostname });
  if (!hasNewUuid) warn(`"${label}" keeps its file-system uuid: this kernel or its ext4 features can't change it`);
  await mount.sync();
}

function effectiveConfig(image: LayerFile, change: ConfigChange | undefined): Config {
  const config = image.manifest?.config ?? defaultConfig();
  return change ? applyConfigChange(config, change) : config;
}

/** A FILE from elsewhere is checked before the kernel mounts it; one whose container id the store knows is our own. */
async function checkStrangersFile(store: Store, image: LayerFile, signal: AbortSignal | undefined): Promise<void> {
  if (image.kind === 'delta') return;
  if (image.manifest?.container !== undefined && (await isKnown(store, image.manifest.container))) return;
  if (image.superblock.needsRecovery) await replayJournal(image.fd, image.label, signal);
  await checkFileSystem(image.fd, image.label, signal);
}

async function isKnown(store: Store, containerId: string): Promise<boolean> {
  for (const name of store.containerNames()) if ((await containerIdOf(store, name)) === containerId) return true;
  return false;
}

/** Undefined where the file can't be read. */
async function containerIdOf(store: Store, name: string): Promise<string | undefined> {
  try {
    await using file = await openLayer(store.containerPath(name), { label: name });
    return file.manifest?.container;
  } catch (error) {
    if (error instanceof LoopboxError) return undefined;
    throw error;
  }
}
