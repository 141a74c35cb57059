import { statSync } from 'node:fs';
import { mkdir, open, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { growFileSystem } from '../../src/image/grow-filesystem';
import { openImage, placeManifest } from '../../src/image/image-file';
import { imageSize } from '../../src/image/make-filesystem';
import { readSuperblock } from '../../src/image/superblock';
import { GiB, KiB, MiB } from '../../src/units';
import { execute, shell } from '../fixtures';
import { allocatedBytes, expectClean, features, manifestOf, mounted, recipeFile, recipeImage } from './whole-images';

describe('the recipe', () => {
  it('makes a clean, thin file system of documented features, for every size', async () => {
    expect([1, 128 * MiB, 128 * MiB + 1, GiB].map(imageSize)).toEqual([128 * MiB, 128 * MiB, 256 * MiB, GiB]);
    for (const sizeBytes of [128 * MiB, 256 * MiB, 10 * GiB]) {
      const { path, file } = await recipeFile(sizeBytes);
      await expectClean(path);
      expect(await readSuperblock(file.fd)).toMatchObject({
        blockSize: 4096,
        sizeBytes,
        checksumValid: true,
        needsCheck: false,
      });
      expect(allocatedBytes(path)).toBeLessThan(6 * MiB);
      const header = await shell('dumpe2fs', '-h', path);
      expect(header).toMatch(/Inode size:\s+256\n/);
      expect(header).toMatch(/Reserved block count:\s+0\n/);
      expect(header).toMatch(new RegExp(`Total journal size:\\s+${sizeBytes === 10 * GiB ? '64M' : `${sizeBytes / 16 / MiB}M`}\n`));
      expect(Number(/Inode count:\s+(\d+)/.exec(header)?.[1])).toBe(sizeBytes / (16 * KiB));
      expect(await features(path)).toEqual(
        expect.arrayContaining(['has_journal', 'extent', '64bit', 'metadata_csum', 'metadata_csum_seed']),
      );
      expect(await features(path)).not.toContain('orphan_file');
    }
  });

  it('makes an image in which stock resize2fs finds nothing to do, and that stock mount and blkid know', async () => {
    const path = await recipeImage(256 * MiB);
    const { code, stderr } = await execute('resize2fs', [path]);
    expect([code, stderr]).toEqual([0, expect.stringMatching(/Nothing to do!/)]);
    expect(await shell('blkid', '-o', 'value', '-s', 'TYPE', path)).toBe('ext4');
    await mounted(path, 'loop', (target) => writeFile(join(target, 'x'), 'y'));
    await shell('e2fsck', '-fy', path);
    await using image = await openImage(path);
    expect(image.manifest).toEqual(manifestOf(256 * MiB));
  });
});

describe('growFileSystem', () => {
  it('grows a fresh, a mounted and a full-of-slots file, and drops the old slots', async () => {
    for (const wasMounted of [false, true]) {
      const path = await recipeImage();
      if (wasMounted) await mounted(path, 'loop', (target) => writeFile(join(target, 'x'), 'kept'));
      // Made, checked and mounted within one second, which resize2fs can't tell.
      if (wasMounted) await shell('tune2fs', '-T', '20200101', path);
      await using file = await open(path, 'r+');
      expect((await readSuperblock(file.fd))?.needsCheck).toBe(wasMounted);
      await growFileSystem(file.fd, 640 * MiB);
      expect(statSync(path).size).toBe(640 * MiB);
      await expectClean(path);
      expect((await file.read(Buffer.alloc(64 * KiB), 0, 64 * KiB, 128 * MiB)).buffer.includes('LOOPBOXM')).toBe(false);
      await placeManifest(file.fd, 640 * MiB, manifestOf(640 * MiB));
      await using image = await openImage(path);
      expect(image).toMatchObject({ sizeBytes: 640 * MiB, superblock: { sizeBytes: 640 * MiB } });
      if (wasMounted) await mounted(path, 'loop,ro', async (target) => expect(await readFile(join(target, 'x'), 'utf8')).toBe('kept'));
    }
  });

  it('refuses a damaged file system', async () => {
    const { path, file } = await recipeFile();
    await mounted(path, 'loop', (target) => mkdir(join(target, 'a/b/c'), { recursive: true }));
    await shell('debugfs', '-w', '-R', 'clri /a/b', path);
    await shell('tune2fs', '-T', '20200101', path);
    await expect(growFileSystem(file.fd, 256 * MiB)).rejects.toMatchObject({ code: 'ERR_LOOPBOX_CORRUPT' });
  });
});
