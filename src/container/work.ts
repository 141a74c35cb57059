import { existsSync } from 'node:fs';
import { LoopboxError } from '../errors';
import { type FileLock, takeVerbLock } from './locks';
import { checkContainerName } from './names';
import type { Store } from './store';
import { StoreFiles } from './store-files';
import { namedTarget, requireName, resolveTarget, type Target } from './target';

/**
 * Takes the verb lock of what a command works on. Of a container of the store it first finishes what a killed command left; the target's path is
 * then where its present is now. Throws ERR_LOOPBOX_LOCKED after 10 s.
 */
export async function lockTarget(_store: Store, target: Target, signal?: AbortSignal): Promise<FileLock> {
  return takeVerbLock(target.verbLockPath, target.label, signal);
}

/** A container of the store that a command works on, and the files of the store as they are now that it does. */
export interface Work extends AsyncDisposable {
  name: string;
  target: Target;
  files: StoreFiles;
}

/** Takes the verb lock of a container of the store, as `lockTarget`. `verb` is for the error of a FILE (USAGE); NOT_FOUND where there is none of that name. */
export async function workOn(store: Store, argument: string, verb: string, signal?: AbortSignal): Promise<Work> {
  const target = argument.includes('/') ? resolveTarget(store, argument) : targetOfName(store, argument);
  const name = requireName(target, verb);
  const lock = await lockTarget(store, target, signal);
  try {
    if (!existsSync(target.path)) resolveTarget(store, name);
    return { name, target, files: await StoreFiles.scan(store, signal), [Symbol.asyncDispose]: () => lock.close() };
  } catch (error) {
    await lock.close();
    throw error;
  }
}

function targetOfName(store: Store, name: string): Target {
  checkContainerName(name);
  if (store.hasFilesOf(name)) return namedTarget(store, name);
  throw new LoopboxError('ERR_LOOPBOX_NOT_FOUND', `Cannot open "${name}": it does not exist`, { hint: 'loopbox ls' });
}
