import { describe, expect, it } from 'vitest';
import { formatFileName, freshNumber, isSnapshotName, parseFileName } from '../../../src/image/file-names';

describe('names of files', () => {
  it.each([
    ['web.img', { role: 'top', name: 'web', extension: 'img' }],
    ['web.delta', { role: 'top', name: 'web', extension: 'delta' }],
    ['a.b-c_d.img.img', { role: 'top', name: 'a.b-c_d.img', extension: 'img' }],
    ['web@mon.img', { role: 'snapshot', name: 'web', snapshot: 'mon', extension: 'img' }],
    ['web@20250102-030405.2.delta', { role: 'snapshot', name: 'web', snapshot: '20250102-030405.2', extension: 'delta' }],
    ['web@mon.next.img', { role: 'snapshot', name: 'web', snapshot: 'mon.next', extension: 'img' }],
    ['web@~7.img', { role: 'nameless', name: 'web', number: 7, extension: 'img' }],
    ['web@~12.delta', { role: 'nameless', name: 'web', number: 12, extension: 'delta' }],
    ['web@~12.fold', { role: 'fold', name: 'web', number: 12 }],
    ['web.next', { role: 'next', name: 'web' }],
    ['web@mon.next', { role: 'half-made', name: 'web', of: 'mon' }],
    ['web@~3.next', { role: 'half-made', name: 'web', of: '~3' }],
  ] as const)('%s is taken apart, and put together again', (fileName, parts) => {
    expect(parseFileName(fileName)).toEqual(parts);
    expect(formatFileName(parts)).toBe(fileName);
  });

  it.each([
    '',
    '.img',
    'web',
    'web.',
    'Web.img',
    '-web.img',
    'web.img.bak',
    'web@.img',
    'web@~.img',
    'web@~x.img',
    'web@~1.fold.img2',
    'web@mon.fold',
    'web.fold',
    'web@a@b.img',
    'web@Mon.img',
    '.tmp-1.img',
    'web:1.img',
    'web.img\n',
    'web/x.img',
    `${'a'.repeat(64)}.img`,
    `web@${'a'.repeat(64)}.img`,
    'web@~1234567890.img',
    '@mon.img',
  ])('%j is none of a container', (fileName) => {
    expect(parseFileName(fileName)).toBeUndefined();
  });

  it('count on from the highest number of the container', () => {
    expect(freshNumber([], 'web')).toBe(1);
    expect(freshNumber(['web@~2.img', 'web@~9.fold', 'web@~10.next', 'other@~99.img', 'web@mon.img', 'web.img'], 'web')).toBe(11);
  });

  it('know what a snapshot may be called', () => {
    expect(['mon', '2025', 'a.b_c-d'].every(isSnapshotName)).toBe(true);
    expect(['', '~1', 'A', '-a', 'a@b', 'a/b', 'a'.repeat(64)].some(isSnapshotName)).toBe(false);
  });
});
