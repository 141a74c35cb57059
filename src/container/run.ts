import { constants } from 'node:os';
import { CleanupStack } from '../cleanup';
import { LoopboxError } from '../errors';
import type { Chain } from '../image/chain';
import { copyView } from '../image/copy-view';
import type { HeldFiles } from '../image/held-files';
import { openImage, placeManifest } from '../image/image-file';
import { NewFile } from '../image/new-file';
import { setReadOnlyFeature } from '../image/superblock';
import { wholeImage } from '../image/whole-image';
import type { Warn, WorkOptions } from '../progress';
import { type AttachClient, connectAttach } from '../runtime/attach';
import type { LastRun, RunRecord } from '../runtime/run-directory';
import { interruptContainer } from '../runtime/signal-container';
import { newUuid } from '../uuid';
import { singleImage } from './attach-present';
import { awaitDetached } from './await-detached';
import type { ConfigChange } from './config-input';
import { type CreateOptions, createContainer } from './create';
import { claimImage, takeAttachmentLock } from './disk';
import type { FileLock } from './locks';
import { newFileBeside } from './new-file-beside';
import { openChain } from './open-chain';
import { removeAfterEnd, removeContainer } from './remove';
import { type StartOptions, startLocked, startPresent } from './start';
import { awaitEnd, awaitMonitor, soonMs, watchEnd } from './stop';
import type { Store } from './store';
import { namedTarget, resolveTarget, type Target, targetOfInode } from './target';
import { forgetRun, tidy } from './tidy';
import { lockTarget } from './work';

export interface RunOptions extends WorkOptions {
  warn: Warn;
  /** Changes of the config: kept by a container that is created, for this run only with a FILE. */
  change: ConfigChange;
  detach: boolean;
  /** Called before the container gets the caller's standard streams. */
  onAttach?: () => void;
  terminal: boolean;
  stdin: boolean;
  /** The argv that the monitor runs after the end: `--rm`. Gets the run's id. */
  removeCommand?: ((id: string) => string[]) | undefined;
}

/** A container that was started by `run`. */
export interface RunningContainer {
  name: string;
  record: RunRecord;
  /** Hands on a signal that the caller got. A command that does not handle it ends of it, as it would without a container. */
  interrupt(signal: NodeJS.Signals): Promise<void>;
  /** How it ended, once it has; its standard streams are the caller's until then. Of a detached one: at once, undefined. */
  ended: Promise<LastRun | undefined>;
}

/** Creates a container from a template and starts it; where it can't be started, it is removed again. */
export async function runTemplate(
  store: Store,
  options: RunOptions & Pick<CreateOptions, 'template' | 'sizeBytes' | 'linked'> & { name?: string | undefined },
): Promise<RunningContainer> {
  const name = options.name ?? `${options.template.replace(/:.*/, '').slice(0, 50)}-${newUuid().slice(0, 8)}`;
  await createContainer(store, name, options);
  const target = namedTarget(store, name);
  const { change: _, ...kept } = options;
  await using undo = new CleanupStack();
  undo.add(() => removeContainer(store, name));
  const container = await runTarget(store, target, kept, (start) => startLocked(store, target, start));
  undo.disarm();
  return container;
}

/**
 * Runs a container straight from its file, where it lies; nothing outside its ext4 area changes. With `ephemeral` the changes go to a
 * copy without a name, which ends with the run.
 */
export async function runFile(store: Store, path: string, options: RunOptions & { ephemeral: boolean }): Promise<RunningContainer> {
  const target = resolveTarget(store, path);
  if (!options.ephemeral) {
    // --rm takes away what a run leaves behind, which of a container of the store would be its file.
    const kept = target.name === undefined ? options : { ...options, removeCommand: undefined };
    return runTarget(store, target, kept, (start) => startLocked(store, target, start));
  }
  await using copy = await copyForRun(store, target, options);
  await using image = await openImage(`/proc/self/fd/${copy.fd}`, { label: target.label, write: true });
  const ephemeral = targetOfInode(store, target.label, image.device, image.inode);
  return await runTarget(store, ephemeral, options, async (start) => {
    await using undo = new CleanupStack();
    undo.add(() => forgetRun(store, ephemeral));
    await takeAttachmentLock(image, target.label);
    const record = await startPresent(store, ephemeral, singleImage(image), start);
    undo.disarm();
    return record;
  });
}

async function runTarget(
  store: Store,
  target: Target,
  options: Omit<RunOptions, 'change'> & { change?: ConfigChange },
  start: (options: StartOptions) => Promise<RunRecord>,
): Promise<RunningContainer> {
  let attach: AttachClient | undefined;
  let watch: FileLock | undefined;
  const record = await locked(store, target, options.signal, (held) =>
    start({
      signal: options.signal,
      held,
      warn: options.warn,
      ...(options.change && { change: options.change }),
      terminal: options.terminal,
      stdin: options.stdin,
      exitCommand: options.removeCommand?.(target.id),
      beforeStart: async () => {
        if (options.detach) return;
        options.onAttach?.();
        watch = await watchEnd(target.directory);
        attach = await connectAttach({ directory: target.directory, terminal: options.terminal, stdin: options.stdin });
      },
    }),
  ).catch(async (error: unknown) => {
    await attach?.close();
    await watch?.close();
    throw error;
  });

  let endedBy: NodeJS.Signals | undefined;
  const interrupt = async (signal: NodeJS.Signals): Promise<void> => {
    try {
      if (!(await interruptContainer(record, signal))) return;
      endedBy ??= signal;
      target.directory.markStopRequested(soonMs);
    } catch {
      // One that has ended meanwhile needs no signal.
    }
  };
  const followToEnd = async (): Promise<LastRun | undefined> => {
    if (!attach) return undefined;
    // What the command would get from the kernel if it wrote to the output itself.
    if ((await attach.ended).outputClosed) await interrupt('SIGPIPE');
    const last = await awaitEnd(target.directory);
    await watch?.close();
    await awaitDetached(record);
    await awaitMonitor(target.directory);
    // With --rm the monitor's exit command has removed it; where the monitor was killed, we do.
    await (options.removeCommand ? removeAfterEnd(store, target.id) : tidy(store, target));
    const killed = last?.exitCode === 128 + constants.signals.SIGKILL;
    return killed && endedBy ? { ...last, exitCode: 128 + constants.signals[endedBy] } : last;
  };
  return { name: target.label, record, interrupt, ended: followToEnd() };
}

async function locked<T>(
  store: Store,
  target: Target,
  signal: AbortSignal | undefined,
  body: (held: HeldFiles | undefined) => Promise<T>,
): Promise<T> {
  await using lock = await lockTarget(store, target, signal);
  return await body(lock.held);
}

/** A copy of the file's present without a name: beside it, to share blocks where the host can, or in the store where that can't be written. */
async function copyForRun(store: Store, target: Target, options: WorkOptions): Promise<NewFile> {
  await using source = await openChain(store, target, { signal: options.signal });
  for (const layer of source.layers) await claimImage(layer, 'shared');
  const copy = await newFileBeside(store, target.path);
  try {
    await fillCopy(source, copy, options);
    return copy;
  } catch (error) {
    await copy.close();
    throw error;
  }
}

async function fillCopy(source: Chain, copy: NewFile, options: WorkOptions): Promise<void> {
  await copyView(source.viewLayers(), copy.fd, options);
  // The copy of a sealed file is not sealed.
  await setReadOnlyFeature(copy.fd, false);
  const { manifest } = source.top;
  if (manifest) await placeManifest(copy.fd, source.sizeBytes, wholeImage(manifest));
}

/** The exit code that a foreground `run` ends with. Throws where the monitor was killed and took the code with it. */
export function exitCodeOf(name: string, last: LastRun | undefined): number {
  if (last?.exitCode != null) return last.exitCode;
  throw new LoopboxError('ERR_LOOPBOX_FAILED', `Cannot tell how "${name}" ended: its monitor was lost`, { hint: `loopbox logs ${name}` });
}
