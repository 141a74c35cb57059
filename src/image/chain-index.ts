import { basename, dirname } from 'node:path';
import { parseFileName } from './file-names';
import type { LayerFile } from './layer-file';
import { type IndexedFile, type ScanOptions, StateIndex } from './state-index';

/**
 * An index that tells what a file's chain is made of: of no more files than that takes, where it is plain. Sealed ones of its own container
 * come first anyway; of others a sealed one will do that lies in these directories and is called as a hint says. Else all are looked at.
 */
export async function indexForChain(top: LayerFile, directories: readonly string[], options: ScanOptions = {}): Promise<StateIndex> {
  const { path, device, inode, manifest } = top;
  const own = parseFileName(basename(path))?.name;
  const seen: ScanOptions['seen'] = new Map();
  const hints = new Set<string>();
  if (!manifest) return StateIndex.scan(directories, options);
  for (;;) {
    const only = (fileName: string) => hints.has(fileName) || (own !== undefined && parseFileName(fileName)?.name === own);
    const index = await StateIndex.scan(directories, { ...options, only, seen });
    const place = { directory: dirname(path), parsed: parseFileName(basename(path)), device, inode, manifest };
    const open = openEnd(index, place);
    if (!open) return index;
    const wanted = [open, ...index.files].flatMap(({ manifest }) => manifest.parent?.hint ?? []).filter((hint) => !hints.has(hint));
    if (wanted.length === 0) break;
    for (const hint of wanted) hints.add(hint);
  }
  return StateIndex.scan(directories, { ...options, seen });
}

type Place = Pick<IndexedFile, 'directory' | 'parsed' | 'manifest' | 'device' | 'inode'>;

/** The first delta of which it is not certain what it stands on. */
function openEnd(index: StateIndex, top: Place): Place | undefined {
  const passed = new Set<Place>();
  for (let file = top; file.manifest.kind === 'delta' && !passed.has(file); ) {
    passed.add(file);
    const below = index.below(file);
    if (!below || !(below.manifest.sealed || below.manifest.fold)) return file;
    file = below;
  }
  return undefined;
}
