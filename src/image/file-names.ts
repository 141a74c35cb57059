const word = '[a-z0-9][a-z0-9._-]{0,62}';
const snapshotName = new RegExp(`^${word}$`);

/**
 * What a file of a container's directory is called:
 * - top: `NAME.img`, `NAME.delta`, the present;
 * - snapshot: `NAME@SNAP.img`, `NAME@SNAP.delta`;
 * - nameless: `NAME@~n.img`, `NAME@~n.delta`, kept because others stand on it;
 * - fold: `NAME@~n.fold`, promises nothing;
 * - next: `NAME.next`, a prepared top, never part of a chain;
 * - half-made: `NAME@….next`, what is being prepared beside it.
 */
export type FileName =
  | { role: 'top'; name: string; extension: LayerExtension }
  | { role: 'snapshot'; name: string; snapshot: string; extension: LayerExtension }
  | { role: 'nameless'; name: string; number: number; extension: LayerExtension }
  | { role: 'fold'; name: string; number: number }
  | { role: 'next'; name: string }
  | { role: 'half-made'; name: string; of: string };

export type LayerExtension = 'img' | 'delta';

const pattern = new RegExp(`^(${word})(?:@(?:~([0-9]{1,9})|(${word})))?\\.(img|delta|fold|next)$`);

/** Undefined for what is none of a container's files. */
export function parseFileName(fileName: string): FileName | undefined {
  const [, name, digits, snapshot, extension] = pattern.exec(fileName) ?? [];
  if (name === undefined) return undefined;
  const base = { name };
  const number = Number(digits);
  if (extension === 'next') {
    if (digits === undefined && snapshot === undefined) return { role: 'next', ...base };
    return { role: 'half-made', ...base, of: fileName.slice(name.length + 1, -'.next'.length) };
  }
  if (extension === 'fold') return digits === undefined ? undefined : { role: 'fold', ...base, number };
  const layer = { ...base, extension: extension as LayerExtension };
  if (digits !== undefined) return { role: 'nameless', ...layer, number };
  return snapshot === undefined ? { role: 'top', ...layer } : { role: 'snapshot', ...layer, snapshot };
}

/** The opposite of `parseFileName`. */
export function formatFileName(file: FileName): string {
  switch (file.role) {
    case 'top':
      return `${file.name}.${file.extension}`;
    case 'snapshot':
      return `${file.name}@${file.snapshot}.${file.extension}`;
    case 'nameless':
      return `${file.name}@~${file.number}.${file.extension}`;
    case 'fold':
      return `${file.name}@~${file.number}.fold`;
    case 'next':
      return `${file.name}.next`;
    case 'half-made':
      break;
  }
  return `${file.name}@${file.of}.next`;
}

export function isSnapshotName(name: string): boolean {
  return snapshotName.test(name);
}

/** A number that no `NAME@~n` in the directory has, nor had one that is still there. */
export function freshNumber(fileNames: Iterable<string>, name: string): number {
  let highest = 0;
  for (const fileName of fileNames) {
    const [, owner, digits] = /^(.*)@~([0-9]{1,9})\./.exec(fileName) ?? [];
    if (owner === name) highest = Math.max(highest, Number(digits));
  }
  return highest + 1;
}
