import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { LiveClone } from '../../src/image/clone-live';
import { native } from '../../src/native';
import { KiB } from '../../src/units';
import { xfsDirectory } from '../fixtures';

/** More than are shared in one step, with holes in between and behind. */
const extents = 700;
const block = (letter: string) => Buffer.alloc(4 * KiB, letter);
const place = (extent: number) => extent * 16 * KiB;

async function fragmentedFile(directory: string) {
  const file = await open(join(directory, 'file'), 'wx+');
  for (let extent = 0; extent < extents; extent++) await file.write(block('x'), 0, 4 * KiB, place(extent));
  await file.truncate(place(extents + 5) + 123);
  await file.sync();
  return file;
}

describe('a clone of a file that is written to', () => {
  it('shares all of it beforehand, and in the end has what was written meanwhile, too', async () => {
    const xfs = await xfsDirectory();
    await using file = await fragmentedFile(xfs);
    await using copy = await open(join(xfs, 'copy'), 'wx+');
    const clone = new LiveClone(copy.fd, file.fd);
    await clone.ahead();
    await copy.sync();
    expect(await native().sharedBytes(copy.fd)).toBe(extents * 4 * KiB);

    await file.write(block('y'), 0, 4 * KiB, place(3));
    await file.write(block('y'), 0, 4 * KiB, place(extents + 2));
    await file.truncate(place(extents + 7));
    await clone.finish();
    expect((await copy.stat()).size).toBe(place(extents + 7));
    expect((await copy.readFile()).equals(await file.readFile())).toBe(true);
    expect(await native().sharedBytes(copy.fd)).toBe((extents + 1) * 4 * KiB);
  });

  it('of an empty file, and of one that is a hole, is made as well', async () => {
    const xfs = await xfsDirectory();
    for (const length of [0, 5 * KiB]) {
      await using file = await open(join(xfs, `file-${length}`), 'wx+');
      await file.truncate(length);
      await using copy = await open(join(xfs, `copy-${length}`), 'wx+');
      const clone = new LiveClone(copy.fd, file.fd);
      await clone.ahead();
      await clone.finish();
      expect((await copy.stat()).size).toBe(length);
    }
  });

  it('is given up when that is asked for', async () => {
    const xfs = await xfsDirectory();
    await using file = await fragmentedFile(xfs);
    await using copy = await open(join(xfs, 'copy'), 'wx+');
    await expect(new LiveClone(copy.fd, file.fd).ahead(AbortSignal.abort(new Error('enough')))).rejects.toThrow('enough');
  });
});
