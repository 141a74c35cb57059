import { closeSync, existsSync, fstatSync, openSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import type { Descriptor } from '../descriptor';
import { explain, isSystemError, LoopboxError } from '../errors';
import { tryLock } from '../flock';
import { native } from '../native';
import { openFileSystem } from './open-file-system';
import type { RunDirectory } from './run-directory';

/** Thaws a file system. Returns false where it was not frozen. */
export async function thaw(fileSystem: Descriptor): Promise<boolean> {
  try {
    await native().thawFileSystem(fileSystem.fd);
    return true;
  } catch (error) {
    if (isSystemError(error, 'EINVAL')) return false;
    throw error;
  }
}

/** Takes away the marker of a guardian that was killed, and what it says that the guardian has left set (native/runtime/expedited-rcu.h). */
export function clearMarker(path: string): void {
  if (readText(path) === 'e') writeFileSync('/sys/kernel/rcu_expedited', '0');
  rmSync(path, { force: true });
}

/**
 * Thaws what a freeze left whose guardian and caller were both killed: its marker is there, and nobody holds the lock on it. A guardian that lives does
 * it by itself. Also for a run that has ended meanwhile: a frozen file system keeps its device attached.
 */
export async function thawLeftover(directory: RunDirectory): Promise<void> {
  const marker = openMarker(directory.freezingPath);
  if (marker === undefined) return;
  try {
    // One that has lost its name meanwhile was no leftover.
    if (!tryLock(marker, 'exclusive') || statSync(directory.freezingPath, { throwIfNoEntry: false })?.ino !== fstatSync(marker).ino) return;
    const record = directory.readRecord();
    if (record) await thawRun(record);
    clearMarker(directory.freezingPath);
  } catch (error) {
    throw explain(error, `thaw the file system of "${directory.id}"`);
  } finally {
    closeSync(marker);
  }
}

async function thawRun(record: Parameters<typeof openFileSystem>[0]): Promise<void> {
  try {
    await using fileSystem = await openFileSystem(record);
    await thaw(fileSystem);
  } catch (error) {
    // What is not attached is not frozen.
    if (!(error instanceof LoopboxError && error.code === 'ERR_LOOPBOX_WRONG_STATE')) throw error;
  }
}

function openMarker(path: string): number | undefined {
  // Nearly always: an error would cost more.
  if (!existsSync(path)) return undefined;
  try {
    return openSync(path, 'r');
  } catch (error) {
    if (isSystemError(error, 'ENOENT', 'ENOTDIR')) return undefined;
    throw error;
  }
}

function readText(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    if (isSystemError(error, 'ENOENT')) return undefined;
    throw error;
  }
}
