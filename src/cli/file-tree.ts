import type { FileInfo } from '../container/container-files';
import { formatSize } from '../units';

/** A container's files as a tree: each below the one that it stands on, with what it holds itself. A file of others is named, no more. */
export function fileTree(files: FileInfo[]): string[] {
  const own = new Set(files.map(({ name }) => name));
  const standingOn = (name: string) => files.filter(({ parent }) => parent === name);
  const below = (name: string, indent: string): string[] =>
    standingOn(name).flatMap((file, index, { length }) => {
      const isLast = index === length - 1;
      return [`${indent}${isLast ? '└─' : '├─'} ${lineOf(file)}`, ...below(file.name, `${indent}${isLast ? '   ' : '│  '}`)];
    });
  const roots = files.filter(({ parent }) => parent === null);
  const others = new Set(files.flatMap(({ parent }) => (parent === null || own.has(parent) ? [] : [parent])));
  return [
    ...roots.flatMap((root) => [lineOf(root), ...below(root.name, '')]),
    ...[...others].flatMap((name) => [name, ...below(name, '')]),
  ];
}

function lineOf({ name, kind, ownBytes, usedBy, pending, problem }: FileInfo): string {
  const facts = [kind, formatSize(ownBytes), usedBy.length > 0 && `used by ${usedBy.join(', ')}`, pending && `${pending} pending`, problem];
  return `${name} (${facts.filter(Boolean).join(', ')})`;
}
