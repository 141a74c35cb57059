import { describe, expect, it } from 'vitest';
import { requireWorkingDisk } from '../../../src/image/check-filesystem';

describe('requireWorkingDisk', () => {
  it.each([
    ['Error reading block 77 (Input/output error) while reading directory block.  Ignore error? yes', 'ERR_LOOPBOX_FAILED'],
    ['Error writing block 9 (No space left on device).  Ignore error? yes', 'ERR_LOOPBOX_NO_SPACE'],
    ['Error flushing writes to storage device: Input/output error', 'ERR_LOOPBOX_FAILED'],
    ['e2fsck: Input/output error while trying to open /dev/fd/3', 'ERR_LOOPBOX_FAILED'],
  ])('takes no failure of the disk for damage: %s', (line, code) => {
    const output = `Pass 1: Checking inodes, blocks, and sizes\n${line}\n\nPass 2: Checking directory structure\n`;
    expect(() => requireWorkingDisk('e2fsck', output)).toThrow(expect.objectContaining({ code }));
    expect(() => requireWorkingDisk('e2fsck', output)).toThrow(/^Cannot finish "e2fsck": .*(error|device|3|block)\)?$/);
  });

  it('lets files be called as they like', () => {
    const lines = [
      "Entry 'Input/output error' in /root (12) has deleted/unused inode 13.  Clear? yes",
      "Entry 'a: No space left on device' in /Input/output error (12) has deleted/unused inode 13.  Clear? yes",
    ];
    expect(() => requireWorkingDisk('e2fsck', lines.join('\n'))).not.toThrow();
  });
});
