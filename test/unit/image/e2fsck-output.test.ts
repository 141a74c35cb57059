import { describe, expect, it } from 'vitest';
import { losesData, parseFindings } from '../../../src/image/e2fsck-output';

/** What e2fsck 1.47 prints of a file system whose directory /a was cleared. */
const output = `/dev/fd/3: recovering journal
Pass 1: Checking inodes, blocks, and sizes
Inode 13 has an invalid extent node (blk 33, lblk 0)
Clear? yes

Pass 2: Checking directory structure
Entry 'a' in / (2) has deleted/unused inode 12.  Clear? yes

Pass 3: Checking directory connectivity
Unconnected directory inode 13 (was in /)
Connect to /lost+found? yes

Pass 4: Checking reference counts
Inode 2 ref count is 5, should be 4.  Fix? yes

Pass 5: Checking group summary information
Block bitmap differences:  -4385 -8705
Fix? yes

Free blocks count wrong (55919, counted=55921).
Fix? yes


/dev/fd/3: ***** FILE SYSTEM WAS MODIFIED *****
/dev/fd/3: 16/16384 files (0.0% non-contiguous), 9615/65536 blocks
`;

describe('parseFindings', () => {
  it('takes each thing that e2fsck asked about with its question, and nothing else', () => {
    expect(parseFindings(output)).toEqual([
      { text: 'Inode 13 has an invalid extent node (blk 33, lblk 0)', question: 'Clear' },
      { text: "Entry 'a' in / (2) has deleted/unused inode 12.", question: 'Clear' },
      { text: 'Unconnected directory inode 13 (was in /)', question: 'Connect to /lost+found' },
      { text: 'Inode 2 ref count is 5, should be 4.', question: 'Fix' },
      { text: 'Block bitmap differences:  -4385 -8705', question: 'Fix' },
      { text: 'Free blocks count wrong (55919, counted=55921).', question: 'Fix' },
    ]);
    expect(parseFindings(output.replaceAll('? yes', '? no'))).toEqual(parseFindings(output));
    expect(parseFindings('e2fsck 1.47.0 (5-Feb-2023)\n/dev/fd/3: clean, 11/8192 files, 5000/65536 blocks\n')).toEqual([]);
  });

  it('keeps what was told without a question', () => {
    expect(parseFindings('*** journal has been deleted ***\n\nPass 2: Checking\n')).toEqual([{ text: '*** journal has been deleted ***' }]);
  });
});

describe('losesData', () => {
  it('is sure of counters, bitmaps and indexes alone', () => {
    expect(parseFindings(output).map(losesData)).toEqual([true, true, true, false, false, false]);
    expect(losesData({ text: 'Inode 12 has a bad checksum.', question: 'Clear inode' })).toBe(true);
    expect(losesData({ text: 'Problem in HTREE directory inode 12.', question: 'Clear HTree index' })).toBe(false);
    expect(losesData({ text: 'Inode 12 extent tree could be narrower.', question: 'Optimize' })).toBe(false);
    expect(losesData({ text: 'Anything', question: 'Do what no e2fsck has asked as yet' })).toBe(true);
  });

  it('takes the journal for data', () => {
    expect(losesData({ text: 'Journal superblock is corrupt.', question: 'Fix' })).toBe(true);
    expect(losesData({ text: '*** journal has been deleted ***' })).toBe(true);
    expect(losesData({ text: 'Padding at end of inode bitmap is not set.' })).toBe(false);
  });
});
