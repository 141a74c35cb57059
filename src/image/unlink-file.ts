import { unlink } from 'node:fs/promises';
import { LoopboxError } from '../errors';
import { ownsMoreThanBlock0 } from './delta-file';
import { openLayer } from './layer-file';
import { type IndexedFile, isSameFile, type StateIndex } from './state-index';

/**
 * Why a file is not needed:
 * - prepared: a `.next` that was never a top, and has no block of its own but the first;
 * - provided: another file holds the same state, whole;
 * - childless: no file stands on its state. The index must be of all directories that a child may lie in, and of now.
 */
export type Needlessness = { why: 'prepared' } | { why: 'provided'; by: IndexedFile } | { why: 'childless'; index: StateIndex };

/**
 * The one place where a file of a container is unlinked on the strength of what is in the files. The proof is looked at once more; where
 * it does not hold, CORRUPT, and nothing is touched. The caller syncs the directory, before and after.
 */
export async function unlinkNeedless(file: IndexedFile, proof: Needlessness): Promise<void> {
  await using opened = await openLayer(file.path, { noFollow: true });
  if (!isSameFile(opened, file)) throw stillNeeded(file, 'it was replaced meanwhile');
  if (proof.why === 'prepared') {
    if (!file.fileName.endsWith('.next')) throw stillNeeded(file, 'it is more than prepared');
    if (opened.kind === 'delta' && (await ownsMoreThanBlock0(opened))) throw stillNeeded(file, 'it holds data that no other file has');
  } else if (proof.why === 'provided') {
    await using other = await openLayer(proof.by.path, { noFollow: true });
    const isWhole = other.kind === 'image' && !other.manifest?.fold;
    if (!isWhole || isSameFile(opened, other) || other.manifest?.state !== opened.manifest?.state)
      throw stillNeeded(file, `"${proof.by.fileName}" does not hold its state`);
  } else {
    const children = proof.index.children(file.manifest.state).filter((child) => !isSameFile(child, file));
    if (children[0]) throw stillNeeded(file, `"${children[0].fileName}" stands on it`);
  }
  await unlink(file.path);
}

function stillNeeded(file: IndexedFile, state: string): LoopboxError {
  return new LoopboxError('ERR_LOOPBOX_CORRUPT', `Cannot remove "${file.fileName}": ${state}`, { path: file.path });
}
