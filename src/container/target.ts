import { existsSync, lstatSync, statSync } from 'node:fs';
import { resolve } from 'node:path';
import { explain, isSystemError, LoopboxError } from '../errors';
import { type LayerFile, openLayer } from '../image/layer-file';
import { isAlive } from '../runtime/processes';
import type { RunDirectory } from '../runtime/run-directory';
import { checkContainerName } from './names';
import { type Store, shortHash } from './store';

/** What an argument names: a container of the store, or a container's file given by path. */
export interface Target {
  /** The id of its run directory, cgroups and log. */
  id: string;
  /** As messages and `ls` show it. */
  label: string;
  path: string;
  /** Missing for a file that is no container of the store. */
  name?: string;
  /** Whether it was given as a FILE, to which nothing is ever done but to its content. */
  byPath: boolean;
  verbLockPath: string;
  directory: RunDirectory;
}

/**
 * Resolves NAME or FILE (whatever has a `/`) to what it names, without opening it.
 * Throws ERR_LOOPBOX_NOT_FOUND where there is no such file, ERR_LOOPBOX_USAGE for a bad name.
 */
export function resolveTarget(store: Store, argument: string): Target {
  if (argument.includes('/')) return fileTarget(store, resolve(argument));
  checkContainerName(argument);
  const target = namedTarget(store, argument);
  // A command that was killed between two renames left no present; the next one that works on it makes that.
  if (store.interruptedNames().includes(argument)) return target;
  // One that works on it now may have given it another since.
  if (!existsSync(target.path)) target.path = store.containerPath(argument);
  fileIdentity(lstatSync, target.path, argument, 'loopbox ls');
  return target;
}

/**
 * As `resolveTarget`, for verbs about what runs: a FILE by whose path a throw-away copy runs stands for that run, and so does the id
 * that `inspect` shows. What runs needs no file any more. Throws ERR_LOOPBOX_WRONG_STATE where several copies of the FILE run.
 */
export function resolveRun(store: Store, argument: string): Target {
  if (!argument.includes('/')) {
    const target = store.runIds().includes(argument) ? targetOfRun(store, argument) : undefined;
    return target && (target.name === undefined || isRunning(target)) ? target : resolveTarget(store, argument);
  }
  const path = resolve(argument);
  const own = statSync(path, { throwIfNoEntry: false }) && fileTarget(store, path);
  if (own && isRunning(own)) return own;
  const runs = store
    .runIds()
    .map((id) => targetOfRun(store, id))
    .filter((target) => target.name === undefined && target.path === path && isRunning(target));
  if (runs.length <= 1) return runs[0] ?? fileTarget(store, path);
  throw new LoopboxError('ERR_LOOPBOX_WRONG_STATE', `Cannot choose a run of "${path}": ${runs.length} copies of it run`, {
    hint: `use an id: ${runs.map(({ id }) => id).join(', ')}`,
  });
}

function isRunning({ directory }: Target): boolean {
  const record = directory.readRecord();
  return record !== undefined && isAlive({ pid: record.pid, start: record.pidStart });
}

/** The target of a run by its id: a container of the store, or a FILE, whose run directory says where it is. */
export function targetOfRun(store: Store, id: string): Target {
  if (!id.startsWith('_f-')) return namedTarget(store, id);
  const directory = store.runDirectory(id);
  const record = directory.readRecord();
  return {
    id,
    label: record?.label ?? id,
    path: record?.file ?? id,
    byPath: true,
    verbLockPath: store.fileLockPath(id),
    directory,
  };
}

/** A container of the store by a name that is known to be valid; its file need not exist. */
export function namedTarget(store: Store, name: string): Target {
  return {
    id: name,
    label: name,
    name,
    byPath: false,
    path: store.containerPath(name),
    verbLockPath: store.verbLockPath(name),
    directory: store.runDirectory(name),
  };
}

/** The target of a FILE, which any path and any hard link to it leads to. */
function fileTarget(store: Store, path: string): Target {
  const { dev, ino } = fileIdentity(statSync, path, path);
  const isSame = (name: string) => {
    const status = lstatSync(store.containerPath(name), { bigint: true, throwIfNoEntry: false });
    return status?.dev === dev && status.ino === ino;
  };
  // A container of the store stays one, whatever path leads to it: one lock, one run directory.
  const name = store.containerNames().find(isSame);
  return name === undefined ? targetOfInode(store, path, dev, ino) : { ...namedTarget(store, name), byPath: true };
}

/** The target of a file that may have no name, shown as `path`. */
export function targetOfInode(store: Store, path: string, device: bigint, inode: bigint): Target {
  const id = fileId(device, inode);
  return { id, label: path, path, byPath: true, verbLockPath: store.fileLockPath(id), directory: store.runDirectory(id) };
}

function fileId(device: bigint, inode: bigint): string {
  const key = `${device}:${inode}`;
  return `_f-${(shortHash(key) + shortHash(`#${key}`)).slice(0, 12)}`;
}

/** What lies in the store must be a file itself; a FILE may be named by a symbolic link. */
function fileIdentity(stat: typeof statSync, path: string, label: string, hint?: string): { dev: bigint; ino: bigint } {
  try {
    const status = stat(path, { bigint: true });
    if (status.isFile()) return status;
  } catch (error) {
    if (!isSystemError(error, 'ENOENT', 'ENOTDIR')) throw explain(error, `open "${label}"`);
    throw new LoopboxError('ERR_LOOPBOX_NOT_FOUND', `Cannot open "${label}": it does not exist`, { path, hint, cause: error });
  }
  throw new LoopboxError('ERR_LOOPBOX_NOT_SUPPORTED', `Cannot open "${label}": it is not a regular file`, { path });
}

/** Opens what a target names: an image, or a delta without what it stands on. */
export function openTarget(target: Target, options: { write?: boolean } = {}): Promise<LayerFile> {
  return openLayer(target.path, { ...options, label: target.label });
}

/** Refuses what never happens to a FILE given by path: no verb renames or removes it. */
export function requireName(target: Target, verb: string): string {
  if (target.name !== undefined && !target.byPath) return target.name;
  throw new LoopboxError(
    'ERR_LOOPBOX_USAGE',
    `Cannot ${verb} "${target.label}": it is a file given by path, not a container of the store`,
    {
      hint: `loopbox import ${target.label}`,
    },
  );
}

/** The error of a verb that wants a running container. */
export function notRunning(target: Target, verb: string): LoopboxError {
  return new LoopboxError('ERR_LOOPBOX_WRONG_STATE', `Cannot ${verb} "${target.label}": it is not running`, {
    hint: target.name ? `loopbox start ${target.name}` : `loopbox run ${target.path}`,
  });
}
