import { constants } from 'node:fs';
import { type FileHandle, open, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { CleanupStack } from '../cleanup';
import { LoopboxError } from '../errors';
import { parseFileName } from '../image/file-names';
import { syncDirectory } from '../image/new-file';
import { takeAttachmentLock } from './disk';
import { structureWaitMs, takeStructureLock } from './locks';
import type { Store } from './store';
import { StoreFiles } from './store-files';

/**
 * Removes all files of a container that does not run, its present first; a kill leaves a rest that is removed like the whole. Damaged ones go
 * like any other. ERR_LOOPBOX_WRONG_STATE where it has snapshots, unless they shall go, too; ERR_LOOPBOX_IN_USE where other containers
 * stand on its files, or one is attached or copied. For the holder of its verb lock.
 */
export async function removeFiles(store: Store, name: string, options: { snapshots: boolean }): Promise<void> {
  await using _lock = await takeStructureLock(store, 'exclusive', structureWaitMs);
  const files = await StoreFiles.scan(store);
  const names = store.fileNamesOf(name);
  if (!options.snapshots) requireNoSnapshots(name, names);
  requireNoUsers(files, name);
  await using cleanup = new CleanupStack();
  const ordered = removalOrder(files, name, names).map((fileName) => join(store.containersDirectory, fileName));
  for (const path of ordered) {
    const file = cleanup.use(await openAny(path));
    await takeAttachmentLock({ fd: file.fd, path }, name);
  }
  for (const path of ordered) {
    await rm(path);
    // What goes first is what nothing stands on: a cut must not turn that round.
    await syncDirectory(store.containersDirectory);
  }
}

/** As `removeFiles`, but leaves a container that has snapshots, or that others stand on: that was not meant to go unasked. */
export async function removeFilesUnlessNeeded(store: Store, name: string): Promise<void> {
  const files = await StoreFiles.scan(store);
  if (files.snapshots(name).length > 0 || files.usersOf(files.ofContainer(name), name).length > 0) return;
  await removeFiles(store, name, { snapshots: false });
}

/** A damaged file is removed like any other, so it is not opened as an image. */
function openAny(path: string): Promise<FileHandle> {
  return open(path, constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOFOLLOW);
}

function requireNoSnapshots(name: string, fileNames: string[]): void {
  const snapshots = fileNames.flatMap((fileName) => {
    const parsed = parseFileName(fileName);
    return parsed?.role === 'snapshot' ? parsed.snapshot : [];
  });
  if (snapshots.length === 0) return;
  throw new LoopboxError('ERR_LOOPBOX_WRONG_STATE', `Cannot remove "${name}": it has snapshots: ${snapshots.join(', ')}`, {
    hint: `loopbox rm --snapshots ${name}`,
  });
}

function requireNoUsers(files: StoreFiles, name: string): void {
  const users = files.usersOf(files.ofContainer(name), name).map(({ user, file }) => ({ user, of: files.nameOf(file) }));
  if (users.length === 0) return;
  const list = users.map(({ user, of }) => (of === name ? user : `${user} (${of})`)).join(', ');
  throw new LoopboxError('ERR_LOOPBOX_IN_USE', `Cannot remove "${name}": other containers stand on its files: ${list}`, {
    hint: users.map(({ user }) => `loopbox flatten ${user}`).join('; '),
  });
}

/** The present, then each file before the one that it stands on. What can't be read, and what was only prepared, holds up nothing. */
function removalOrder(files: StoreFiles, name: string, names: string[]): string[] {
  const ordered: string[] = [];
  let rest = files.ofContainer(name);
  while (rest.length > 0) {
    const free = rest.find((file) => !files.above(file).some((above) => rest.includes(above))) ?? rest[0];
    if (free) ordered.push(free.fileName);
    rest = rest.filter((file) => file !== free);
  }
  const others = names.filter((fileName) => !ordered.includes(fileName));
  const isTop = (fileName: string) => parseFileName(fileName)?.role === 'top';
  return [...others.filter(isTop), ...ordered, ...others.filter((fileName) => !isTop(fileName))];
}
