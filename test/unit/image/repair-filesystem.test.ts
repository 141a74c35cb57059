import { describe, expect, it } from 'vitest';
import type { ListedFile } from '../../../src/image/list-files';
import { lostFiles } from '../../../src/image/repair-filesystem';

const file = (path: string, inode: number, sizeBytes = 1): ListedFile => ({ path, inode, mode: 0o100644, sizeBytes });
const directory = (path: string, inode: number): ListedFile => ({ path, inode, mode: 0o040755, sizeBytes: 0 });

describe('what a repair lost', () => {
  it('is nothing where all is as before', () => {
    const files = [directory('/a', 12), file('/a/b', 13), file('/a/hard link', 13)];
    expect(lostFiles(files, files)).toEqual([]);
  });

  it('is what is gone, has another length or kind, or lost one of its names', () => {
    const before = [file('/gone', 12), file('/short', 13, 9), file('/other', 14), file('/one', 15), file('/two', 15)];
    expect(lostFiles(before, [file('/short', 13, 8), directory('/other', 14), file('/one', 15)])).toEqual([
      { path: '/gone', what: 'gone' },
      { path: '/short', what: 'changed' },
      { path: '/other', what: 'changed' },
      { path: '/two', what: 'gone' },
    ]);
  });

  it('names a directory that was moved once, whatever lies in it, and what lost+found has of which no name is known', () => {
    const before = [directory('/a', 12), directory('/a/b', 13), file('/a/b/c', 14), file('/a/b/d', 15)];
    const after = [directory('/lost+found/#13', 13), file('/lost+found/#13/c', 14), file('/lost+found/#99', 99)];
    expect(lostFiles(before, after)).toEqual([
      { path: '/a', what: 'gone' },
      { path: '/a/b', what: 'moved', to: '/lost+found/#13' },
      { path: '/a/b/d', what: 'gone' },
      { path: '/lost+found/#99', what: 'found' },
    ]);
  });
});
