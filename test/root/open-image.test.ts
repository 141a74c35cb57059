import { open, readFile, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { checkFileSystem, replayJournal } from '../../src/image/check-filesystem';
import { copyImage } from '../../src/image/copy-image';
import { growFileSystem } from '../../src/image/grow-filesystem';
import { openImage, placeManifest, rescueImage } from '../../src/image/image-file';
import { imageSize } from '../../src/image/make-filesystem';
import { NewFile } from '../../src/image/new-file';
import { GiB, KiB, MiB } from '../../src/units';
import { shell, temporaryDirectory } from '../fixtures';
import { expectClean, failureOf, foreignFile, manifestOf, mounted, newPath, recipeFile, recipeImage, unrecovered } from './whole-images';

describe('openImage on files of stock tools', () => {
  it('takes 1 KiB blocks, ext3, ext2, and a file system without checksums', async () => {
    for (const args of [
      ['-b', '1024'],
      ['-O', '^metadata_csum'],
      ['-O', 'bigalloc'],
    ]) {
      await using image = await openImage(await foreignFile(32 * MiB, ...args));
      expect(image).toMatchObject({ sizeBytes: 32 * MiB, manifest: undefined });
      expect(image.superblock).toMatchObject({
        checksumValid: true,
        isExt4: true,
        blockSize: args[1] === '1024' ? 1024 : expect.any(Number),
      });
      const header = await shell('dumpe2fs', '-h', image.path);
      const free = Number(/Free blocks:\s+(\d+)/.exec(header)?.[1]) * image.superblock.blockSize;
      expect(image.superblock.freeBytes).toBe(free);
    }
    const ext2 = await newPath();
    await writeFile(ext2, '');
    await truncate(ext2, 16 * MiB);
    await shell('mke2fs', '-q', '-F', '-t', 'ext2', ext2);
    await using image = await openImage(ext2);
    expect(image.sizeBytes).toBe(16 * MiB);
  });

  it('takes one that needs recovery, and replays its journal', async () => {
    const path = await unrecovered();
    await using image = await openImage(path, { write: true });
    expect(image.superblock.needsRecovery).toBe(true);
    await replayJournal(image.fd, path);
    await checkFileSystem(image.fd, path);
    await using again = await openImage(path);
    expect(again.superblock.needsRecovery).toBe(false);
    expect(again.manifest).toEqual(manifestOf(128 * MiB));
    await mounted(path, 'loop,ro', async (target) => expect(await readFile(join(target, 'journaled'), 'utf8')).toBe('only in the journal'));
  });

  it('refuses XFS and swap by name with 15, a cut file and a wrong checksum with 13', async () => {
    const xfs = await newPath();
    await writeFile(xfs, '');
    await truncate(xfs, 320 * MiB);
    await shell('mkfs.xfs', '-q', xfs);
    await expect(openImage(xfs)).rejects.toMatchObject({
      code: 'ERR_LOOPBOX_NOT_SUPPORTED',
      message: `Cannot open "${xfs}": it is an XFS file system, not an ext4 image`,
    });
    const swap = await newPath();
    await writeFile(swap, Buffer.alloc(MiB));
    await shell('mkswap', swap);
    await expect(openImage(swap)).rejects.toMatchObject({
      code: 'ERR_LOOPBOX_NOT_SUPPORTED',
      message: expect.stringMatching(/swap space/),
    });

    const cut = await foreignFile(32 * MiB);
    await truncate(cut, 31 * MiB);
    await expect(openImage(cut)).rejects.toMatchObject({ code: 'ERR_LOOPBOX_CORRUPT', message: expect.stringMatching(/cut short/) });
    const flipped = await foreignFile(32 * MiB);
    await using file = await open(flipped, 'r+');
    await file.write(Buffer.from([0xff]), 0, 1, 1024 + 0x90);
    await expect(openImage(flipped)).rejects.toMatchObject({
      code: 'ERR_LOOPBOX_CORRUPT',
      message: expect.stringMatching(/checksum is wrong/),
    });
  });

  it('finds damage that only e2fsck sees', async () => {
    const { path, file } = await recipeFile();
    // The first group's block bitmap.
    const block = Number(/Block bitmap at (\d+)/.exec(await shell('dumpe2fs', path))?.[1]);
    await file.write(Buffer.alloc(64, 0x5a), 0, 64, block * 4096);
    await expect(checkFileSystem(file.fd, 'x.img')).rejects.toMatchObject({
      code: 'ERR_LOOPBOX_CORRUPT',
      message: expect.stringMatching(/^Cannot use "x.img": its file system is damaged: .*bitmap/),
      hint: 'e2fsck -f x.img',
    });
  });

  it('finds the manifest where the file was only lengthened, at once also in a huge file', async () => {
    const path = await recipeImage();
    await truncate(path, 8 * 1024 * GiB);
    const start = Date.now();
    await using image = await openImage(path);
    expect(image.manifest).toEqual(manifestOf(128 * MiB));
    // One that looks at each MiB takes minutes.
    expect(Date.now() - start).toBeLessThan(20_000);
  });

  it('finds a manifest that lies neither at the end nor at ext4’s own size', async () => {
    const { path, file } = await recipeFile();
    await placeManifest(file.fd, 256 * MiB, manifestOf(256 * MiB));
    await truncate(path, 1024 * GiB);
    await file.write(Buffer.from('other data'), 0, 10, 700 * GiB + 5);
    await using image = await openImage(path);
    expect(image.sizeBytes).toBe(256 * MiB);
  });

  it('refuses what truncate and resize2fs have done by hand, with the way back; rescue takes it', async () => {
    const path = await recipeImage();
    await shell('truncate', '-s', '+1G', path);
    await shell('e2fsck', '-fp', path);
    await shell('resize2fs', path);
    expect(await failureOf(openImage(path))).toMatchObject({ code: 'ERR_LOOPBOX_CORRUPT', hint: `loopbox import --rescue ${path}` });

    await using image = await rescueImage(path);
    expect(image.manifest).toBeUndefined();
    expect(image.sizeBytes % MiB).toBe(0);
    await using copy = await NewFile.create(await temporaryDirectory());
    await copyImage(image.fd, copy.fd, image.sizeBytes);
    const sizeBytes = imageSize(image.sizeBytes);
    await growFileSystem(copy.fd, sizeBytes);
    await placeManifest(copy.fd, sizeBytes, manifestOf(sizeBytes));
    const rescued = await newPath();
    await copy.publish(rescued);
    await expectClean(rescued);
    await using again = await openImage(rescued);
    expect(again.superblock.sizeBytes).toBe(again.sizeBytes);
  });

  it('can not give a manifest to a size that is not a multiple of 1 MiB', async () => {
    const path = await foreignFile(32 * MiB + 64 * KiB);
    await using image = await openImage(path, { write: true });
    await expect(placeManifest(image.fd, image.sizeBytes, manifestOf(image.sizeBytes))).rejects.toMatchObject({
      code: 'ERR_LOOPBOX_NOT_SUPPORTED',
    });
  });
});
