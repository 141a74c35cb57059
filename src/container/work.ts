import { existsSync, lstatSync, mkdirSync, renameSync } from 'node:fs';
import { dirname } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { LoopboxError } from '../errors';
import { parseFileName } from '../image/file-names';
import { HeldFiles } from '../image/held-files';
import { isNameless } from '../image/merge-context';
import { recover } from '../image/recover';
import type { IndexedFile } from '../image/state-index';
import { StackControl } from '../loop/stack-control';
import { inspectRun } from '../runtime/status';
import { FileLock, takeVerbLock } from './locks';
import { dropLeases } from './merge';
import { checkContainerName } from './names';
import { unlinkUnneeded } from './reclaim';
import type { Store } from './store';
import { StoreFiles } from './store-files';
import { namedTarget, requireName, resolveTarget, type Target } from './target';

/** A verb lock, with what was read of the container's files since it is held. */
export type TargetLock = FileLock & { held?: HeldFiles };

/**
 * Takes the verb lock of what a command works on. Of a container of the store it first finishes what a killed command left; the target's path is
 * then where its present is now. Throws ERR_LOOPBOX_LOCKED after 10 s, ERR_LOOPBOX_CORRUPT where it is not certain what the present is.
 */
export async function lockTarget(store: Store, target: Target, signal?: AbortSignal): Promise<TargetLock> {
  const lock = await takeVerbLock(target.verbLockPath, target.label, signal);
  if (target.name === undefined) return lock;
  try {
    const held = new HeldFiles(store.containersDirectory, target.name);
    await recoverContainer(store, target, target.name, held);
    target.path = store.containerPath(target.name);
    return Object.assign(lock, { held });
  } catch (error) {
    await lock.close();
    throw error;
  }
}

async function recoverContainer(store: Store, target: Target, name: string, held?: HeldFiles): Promise<void> {
  const [only, ...others] = store.fileNamesOf(name);
  const absent = store.absentNames();
  // A present that is alone has nothing to be recovered from, unless it was renamed, and what belongs to it was not yet.
  if (others.length === 0 && (only === undefined || parseFileName(only)?.role === 'top') && absent.length === 0) return;
  if (absent.includes(name)) {
    const heir = await renamedFrom(store, name);
    if (heir !== undefined) await tidyNames(store, heir);
    if (store.fileNamesOf(name).length === 0) return;
  }
  const live = await servedFile(store, target, name);
  if (live && others.some((fileName) => isNameless({ parsed: parseFileName(fileName) }))) await dropLeases(target);
  await recover(store.containersDirectory, name, { live, held, renameRest: async (from, to) => moveRunAlong(store, from, to) });
}

/** The container that was called NAME when a rename of it was killed, and has left files under that name. */
async function renamedFrom(store: Store, name: string): Promise<string | undefined> {
  const { files } = (await StoreFiles.scan(store)).index;
  const isHeir = ({ parsed, manifest }: IndexedFile) => parsed?.role === 'top' && manifest.formerly === name;
  return files.find(isHeir)?.parsed?.name;
}

/** Finishes what a killed command left of a container's names, where no other works on it now. */
export async function tidyNames(store: Store, name: string): Promise<void> {
  await using lock = await FileLock.take(store.verbLockPath(name), 'exclusive', 0);
  if (lock) await recoverContainer(store, namedTarget(store, name), name);
}

/** The file that a running container writes to: as its storage server says, else the one that bears its name. */
async function servedFile(store: Store, { directory }: Target, name: string): Promise<{ device: bigint; inode: bigint } | undefined> {
  const { running, record } = await inspectRun(directory);
  if (!running) return undefined;
  const served = record.server && (await topOfServer(directory.controlPath, name));
  if (served) return served;
  const status = lstatSync(store.containerPath(name), { bigint: true, throwIfNoEntry: false });
  return status && { device: status.dev, inode: status.ino };
}

/** Undefined where the server has died: then nobody writes any more. */
async function topOfServer(path: string, name: string): Promise<{ device: bigint; inode: bigint } | undefined> {
  try {
    return (await new StackControl(path, name).status()).layers.at(-1);
  } catch (error) {
    if (error instanceof LoopboxError && error.code === 'ERR_LOOPBOX_WRONG_STATE') return undefined;
    throw error;
  }
}

/** The record of the last run and the log go with a container that is renamed; they are no part of it. Idempotent. */
export function moveRunAlong(store: Store, from: string, to: string): void {
  moveAlong(store.runDirectory(from).root, store.runDirectory(to).root);
  moveAlong(store.logPath(from), store.logPath(to));
}

function moveAlong(from: string, to: string): void {
  if (!existsSync(from)) return;
  mkdirSync(dirname(to), { recursive: true, mode: 0o700 });
  renameSync(from, to);
}

/** Long enough for who waits for the lock, and looks at it each 20 ms. */
const pauseMs = 30;

/** A container of the store that a command works on, and the files of the store as they are now that it does. */
export interface Work extends AsyncDisposable {
  name: string;
  target: Target;
  files: StoreFiles;
  /** What was read of the container's files since its verb lock is held. */
  readonly held: HeldFiles | undefined;
  /** Lets other commands have the container for a moment, longer if told; names and files may be others afterwards. */
  pause(forMs?: number): Promise<void>;
}

/** Takes the verb lock of a container of the store, as `lockTarget`. `verb` is for the error of a FILE (USAGE); NOT_FOUND where there is none of that name. */
export async function workOn(store: Store, argument: string, verb: string, signal?: AbortSignal): Promise<Work> {
  const target = argument.includes('/') ? resolveTarget(store, argument) : targetOfName(store, argument);
  const name = requireName(target, verb);
  let lock = await lockTarget(store, target, signal);
  const pause = async (forMs = pauseMs) => {
    await lock.close();
    await sleep(forMs);
    lock = await lockTarget(store, target, signal);
  };
  try {
    if (!existsSync(target.path)) resolveTarget(store, name);
    const { held } = lock;
    let files = await StoreFiles.scan(store, { signal, held });
    // What an earlier command could not take away, because it was mounted, say.
    if (await unlinkUnneeded(store, name, files)) files = await StoreFiles.scan(store, { signal, held });
    return {
      name,
      target,
      files,
      pause,
      get held() {
        return lock.held;
      },
      [Symbol.asyncDispose]: () => lock.close(),
    };
  } catch (error) {
    await lock.close();
    throw error;
  }
}

function targetOfName(store: Store, name: string): Target {
  checkContainerName(name);
  if (store.fileNamesOf(name).length > 0) return namedTarget(store, name);
  throw new LoopboxError('ERR_LOOPBOX_NOT_FOUND', `Cannot open "${name}": it does not exist`, { hint: 'loopbox ls' });
}
