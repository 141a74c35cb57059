import { LoopboxError } from '../errors';
import type { LayerFile } from '../image/layer-file';
import type { Config } from '../image/manifest';
import { inspectRun, type RunState } from '../runtime/status';
import { type Attach, chooseAttach } from './attach-choice';
import { describeFiles, type FileInfo } from './container-files';
import { FileLock } from './locks';
import { openPresent } from './open-present';
import { ownBytes } from './own-bytes';
import { identityOf } from './past';
import { type StorageTrouble, storageTrouble } from './storage-state';
import type { Store } from './store';
import type { StoreFiles } from './store-files';
import type { Target } from './target';

export type ContainerState = 'created' | 'running' | 'stopped' | 'failed';

/** What `ls`, `ps` and `inspect` tell about a container. Sizes are bytes, times ISO 8601. */
export interface ContainerInfo {
  /** Of its run directory, cgroups and log: the name, or for a FILE one that no other file has. */
  id: string;
  name: string;
  path: string;
  state: ContainerState;
  /** Why a failed one failed, or what is wrong with a running one (`monitor lost`, `host full`, `disk failed`). */
  reason?: string;
  /** Whether another command works on it now. */
  busy: boolean;
  pid: number | null;
  sizeBytes: number;
  /** Bytes on the host that its removal would give back, but for its snapshots'. */
  ownBytes: number;
  template: string | null;
  containerId?: string;
  created?: string;
  config?: Config;
  /** The paths of all its files, its present first. */
  files: string[];
  /** What each of them is. Only of containers of the store, and only in `inspect`. */
  fileDetails?: FileInfo[];
  /** What waits to be done with its files: blocks to be merged, or files that nobody needs any more. */
  pending?: 'fold' | 'reclaim';
  /** How its disk is attached, or would be at a start now. Only in `inspect`. */
  attach?: Attach;
  limits: Config['limits'];
  exitCode: number | null;
  oomKilled: boolean;
  startedAt: string | null;
  endedAt: string | null;
}

export interface DescribeOptions {
  /** Whether to tell what each file is, and how the disk is attached. */
  details: boolean;
}

/**
 * Describes a container; damage of its file is told as its state, never thrown. `files` are those of the store; without them only the present
 * is looked at.
 */
export async function describeContainer(
  store: Store,
  target: Target,
  files?: StoreFiles,
  options: DescribeOptions = { details: false },
): Promise<ContainerInfo> {
  let run = await inspectRun(target.directory);
  const base = {
    id: target.id,
    name: target.label,
    busy: FileLock.isHeld(target.verbLockPath),
    pid: run.running ? run.record.pid : null,
  };
  try {
    await using image = await openPresent(store, target);
    if (run.last && run.last.identity !== identityOf(target, image)) run = { running: false, monitorAlive: false };
    const own = files && target.name !== undefined && !target.byPath ? await ownFiles(files, target.name, options) : undefined;
    const trouble = run.running ? await storageTrouble(target, run.record) : undefined;
    const attach = options.details ? { attach: await attachOf(store, target, image, run) } : {};
    return { ...base, path: target.path, ...stateOf(run, image, trouble), ...(await contentOf(image)), ...attach, ...own, ...endOf(run) };
  } catch (error) {
    if (!(error instanceof LoopboxError)) throw error;
    const reason = error.code === 'ERR_LOOPBOX_NOT_FOUND' ? absence(target, files) : error.message;
    const state = { state: run.running ? ('running' as const) : ('failed' as const), reason };
    return { ...base, path: target.path, ...state, ...endOf(run), sizeBytes: 0, ownBytes: 0, template: null, files: [], limits: {} };
  }
}

async function attachOf(store: Store, { name }: Target, image: LayerFile, run: RunState): Promise<Attach> {
  if (run.running) return run.record.server ? 'stack' : 'direct';
  return chooseAttach(store, image, { name });
}

/** What is known of a container from all of its files. */
async function ownFiles(files: StoreFiles, name: string, { details }: DescribeOptions) {
  // A file that stands alone is told of already.
  if (!details && files.ofContainer(name).length < 2) return undefined;
  const infos = await describeFiles(files, name);
  const [pending] = infos.flatMap((info) => info.pending ?? []);
  return {
    ownBytes: infos.filter(({ role }) => role !== 'snapshot').reduce((sum, info) => sum + info.ownBytes, 0),
    files: infos.map(({ path }) => path),
    ...(details && { fileDetails: infos }),
    ...(pending && { pending }),
  };
}

function absence({ name }: Target, files: StoreFiles | undefined): string {
  const rest = name === undefined ? [] : (files?.ofContainer(name) ?? []);
  return rest.length > 0 ? 'the rest of a container: its present is not there' : 'its file was taken away';
}

async function contentOf(image: LayerFile) {
  const { manifest } = image;
  return {
    sizeBytes: image.sizeBytes,
    ownBytes: await ownBytes(image.fd),
    template: manifest?.template?.name ?? null,
    files: [image.path],
    limits: manifest?.config.limits ?? {},
    ...(manifest?.container && { containerId: manifest.container }),
    ...(manifest && { created: manifest.created, config: manifest.config }),
  };
}

function endOf(run: RunState) {
  return {
    exitCode: run.last?.exitCode ?? null,
    oomKilled: run.last?.oomKilled ?? false,
    startedAt: run.running ? run.record.startedAt : (run.last?.startedAt ?? null),
    endedAt: run.last?.endedAt ?? null,
  };
}

function stateOf(run: RunState, image: LayerFile, trouble: StorageTrouble | undefined): { state: ContainerState; reason?: string } {
  if (run.running) {
    const reason = trouble ?? (run.monitorAlive ? undefined : 'monitor lost');
    return { state: 'running', ...(reason && { reason }) };
  }
  if (run.last) {
    const reason = failureOf(run.last);
    return reason === undefined ? { state: 'stopped' } : { state: 'failed', reason };
  }
  return { state: image.manifest && !image.manifest.started ? 'created' : 'stopped' };
}

/** Why the last run counts as failed: an end with another code than 0 that no one asked for. */
function failureOf(last: NonNullable<RunState['last']>): string | undefined {
  if (last.storageLost) return 'storage server lost';
  if (last.oomKilled) return 'out of memory';
  if (last.requested || last.exitCode === 0) return undefined;
  if (last.exitCode === null) return 'exit code unknown';
  return last.exitCode > 128 ? `killed by signal ${last.exitCode - 128}` : `exit ${last.exitCode}`;
}
