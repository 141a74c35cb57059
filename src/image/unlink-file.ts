import { unlink } from 'node:fs/promises';
import { LoopboxError } from '../errors';
import { coversMap, ownsMoreThanBlock0 } from './delta-file';
import { type LayerFile, openLayer } from './layer-file';
import { verifySeal } from './seal';
import { type IndexedFile, isSameFile, type StateIndex } from './state-index';

/**
 * Why a file is not needed:
 * - prepared: a `.next` that was never a top, and has no block of its own but the first;
 * - provided: another file holds the same state, whole;
 * - childless: no file stands on its state;
 * - absorbed: its only child owns every block that it has, and stands on what it stood on.
 *
 * The index must be of all directories that a child may lie in, and of now.
 */
export type Needlessness =
  | { why: 'prepared' }
  | { why: 'provided'; by: IndexedFile }
  | { why: 'childless'; index: StateIndex }
  | { why: 'absorbed'; by: IndexedFile; index: StateIndex };

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
    await verifySeal(other);
  } else {
    // Of a file that is being merged the state does not tell who stands on it.
    if (opened.manifest?.fold && proof.why === 'childless') throw stillNeeded(file, 'it is being merged');
    const children = proof.index.children(opened.manifest?.state ?? '').filter((child) => !isSameFile(child, file));
    if (children[0]) throw stillNeeded(file, `"${children[0].fileName}" stands on it`);
    if (proof.why === 'absorbed') await requireAbsorbed(file, opened, proof.by);
  }
  await unlink(file.path);
}

async function requireAbsorbed(file: IndexedFile, parent: LayerFile, by: IndexedFile): Promise<void> {
  await using child = await openLayer(by.path, { noFollow: true });
  if (parent.kind !== 'delta' || child.kind !== 'delta' || isSameFile(parent, child)) throw stillNeeded(file, 'it is not absorbed');
  if (!parent.manifest.parent || child.manifest.parent?.state !== parent.manifest.parent.state)
    throw stillNeeded(file, `"${by.fileName}" does not stand on what it stands on`);
  if (!(await coversMap(child, parent))) throw stillNeeded(file, `"${by.fileName}" lacks blocks of it`);
}

function stillNeeded(file: IndexedFile, state: string): LoopboxError {
  return new LoopboxError('ERR_LOOPBOX_CORRUPT', `Cannot remove "${file.fileName}": ${state}`, { path: file.path });
}
