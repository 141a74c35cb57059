import { createWriteStream, readdirSync, statSync } from 'node:fs';
import { type FileHandle, mkdir, open, readFile, rename, symlink, truncate, writeFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { PassThrough } from 'node:stream';
import { beforeAll, describe, expect, it } from 'vitest';
import { tryLock } from '../../src/flock';
import { checkFileSystem, replayJournal } from '../../src/image/check-filesystem';
import { copyImage } from '../../src/image/copy-image';
import { growFileSystem } from '../../src/image/grow-filesystem';
import { type ImageFile, openImage, placeManifest, rescueImage } from '../../src/image/image-file';
import { imageSize, makeFileSystem } from '../../src/image/make-filesystem';
import type { Manifest } from '../../src/image/manifest';
import { NewFile, renameDurably } from '../../src/image/new-file';
import { sealNewImage, unseal, verifySeal } from '../../src/image/seal';
import { writeImageToStream } from '../../src/image/stream-image';
import { readSuperblock, setReadOnlyFeature } from '../../src/image/superblock';
import type { ProgressEvent } from '../../src/progress';
import { GiB, KiB, MiB } from '../../src/units';
import { newUuid } from '../../src/uuid';
import { cleanUp, execute, shell, temporaryDirectory, xfsDirectory } from '../fixtures';

let directory: string;
let count = 0;
beforeAll(async () => {
  directory = await temporaryDirectory();
});

function manifestOf(sizeBytes: number): Manifest {
  const id = (digit: string) => `${digit.repeat(8)}-2222-4333-8444-555555555555`;
  return {
    kind: 'image',
    container: id('1'),
    state: id('2'),
    name: 'web',
    sizeBytes,
    created: '2025-01-02T03:04:05Z',
    config: { command: ['/bin/true'], environment: { A: 'b' }, limits: { pids: 40 }, labels: {} },
  };
}

async function emptyFile(): Promise<{ path: string; file: FileHandle }> {
  const path = join(directory, `${++count}.img`);
  const file = await open(path, 'wx+');
  cleanUp(() => file.close());
  return { path, file };
}

/** An empty file system by the recipe, without manifest. */
async function recipeFile(sizeBytes = 128 * MiB): Promise<{ path: string; file: FileHandle }> {
  const made = await emptyFile();
  await makeFileSystem(made.file.fd, sizeBytes);
  return made;
}

async function recipeImage(sizeBytes = 128 * MiB): Promise<string> {
  const { path, file } = await recipeFile(sizeBytes);
  await placeManifest(file.fd, sizeBytes, manifestOf(sizeBytes));
  return path;
}

/** What somebody else's mke2fs makes. */
async function foreignFile(sizeBytes: number, ...args: string[]): Promise<string> {
  const path = join(directory, `${++count}.img`);
  await writeFile(path, '');
  await truncate(path, sizeBytes);
  await shell('mke2fs', '-q', '-F', '-t', 'ext4', ...args, path);
  return path;
}

/** Mounts a file as stock tools do, changes it, unmounts it. */
async function mounted(path: string, options: string, body: (target: string) => Promise<unknown>): Promise<void> {
  const target = join(await temporaryDirectory(), 'mount');
  await mkdir(target);
  await shell('mount', '-o', options, path, target);
  try {
    await body(target);
  } finally {
    await shell('umount', target);
  }
}

/** A file system as a running container's file has it: copied while mounted, its last files only in the journal. */
async function unrecovered(): Promise<string> {
  const path = await recipeImage();
  const copy = join(directory, `${++count}.img`);
  await mounted(path, 'loop', async (target) => {
    await writeFile(join(target, 'journaled'), 'only in the journal');
    await shell('sync', '-f', target);
    await shell('cp', '--sparse=always', path, copy);
  });
  return copy;
}

async function features(path: string): Promise<string[]> {
  const line = (await shell('dumpe2fs', '-h', path)).split('\n').find((line) => line.startsWith('Filesystem features:'));
  return line?.split(/\s+/).slice(2) ?? [];
}

async function expectClean(path: string): Promise<void> {
  const { code, stdout } = await execute('e2fsck', ['-fn', path]);
  expect([code, stdout]).toEqual([0, expect.any(String)]);
}

async function failureOf(promise: Promise<unknown>): Promise<unknown> {
  return promise.then(
    () => 'no error',
    (error: unknown) => error,
  );
}

function allocatedBytes(path: string): number {
  return statSync(path).blocks * 512;
}

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

describe('the read-only feature', () => {
  it('is set and cleared as tune2fs would, with its checksum', async () => {
    const { path, file } = await recipeFile();
    await setReadOnlyFeature(file.fd, true);
    await setReadOnlyFeature(file.fd, true);
    expect(await features(path)).toContain('read-only');
    await expectClean(path);
    expect((await readSuperblock(file.fd))?.checksumValid).toBe(true);
    // util-linux falls back to a read-only mount.
    await mounted(path, 'loop,rw', (target) => expect(writeFile(join(target, 'x'), 'y')).rejects.toMatchObject({ code: 'EROFS' }));

    await setReadOnlyFeature(file.fd, false);
    expect(await features(path)).not.toContain('read-only');
    await expectClean(path);
    const ours = await readFile(path);
    await shell('tune2fs', '-O', 'read-only', path);
    await shell('tune2fs', '-O', '^read-only', path);
    expect((await readSuperblock(file.fd))?.checksumValid).toBe(true);
    expect(ours.readUInt32LE(1024 + 0x64)).toBe((await readFile(path)).readUInt32LE(1024 + 0x64));
  });

  it('is not written into a damaged superblock', async () => {
    const { file } = await recipeFile();
    await file.write(Buffer.from([1]), 0, 1, 1024 + 0x78);
    await expect(setReadOnlyFeature(file.fd, true)).rejects.toMatchObject({ code: 'ERR_LOOPBOX_CORRUPT' });
  });
});

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
    const ext2 = join(directory, 'ext2.img');
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
    const xfs = join(directory, 'xfs.img');
    await writeFile(xfs, '');
    await truncate(xfs, 320 * MiB);
    await shell('mkfs.xfs', '-q', xfs);
    await expect(openImage(xfs)).rejects.toMatchObject({
      code: 'ERR_LOOPBOX_NOT_SUPPORTED',
      message: `Cannot open "${xfs}": it is an XFS file system, not an ext4 image`,
    });
    const swap = join(directory, 'swap.img');
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
    expect(Date.now() - start).toBeLessThan(1000);
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
    await using copy = await NewFile.create(directory);
    await copyImage(image.fd, copy.fd, image.sizeBytes);
    const sizeBytes = imageSize(image.sizeBytes);
    await growFileSystem(copy.fd, sizeBytes);
    await placeManifest(copy.fd, sizeBytes, manifestOf(sizeBytes));
    const rescued = join(directory, 'rescued.img');
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

describe('copyImage', () => {
  it('copies data only on ext4, byte by byte the same, with progress', async () => {
    const { path, file } = await recipeFile(256 * MiB);
    await mounted(path, 'loop', (target) => shell('dd', 'if=/dev/urandom', `of=${target}/data`, 'bs=1M', 'count=80'));
    const copy = await emptyFile();
    const events: ProgressEvent[] = [];
    expect(await copyImage(file.fd, copy.file.fd, 256 * MiB, { onProgress: (event) => events.push(event) })).toBe('copy');
    await shell('cmp', path, copy.path);
    expect(allocatedBytes(copy.path)).toBeLessThanOrEqual(allocatedBytes(path) + MiB);
    expect(events.length).toBeGreaterThan(2);
    expect(events.at(-1)).toEqual({ action: 'copying', doneBytes: 256 * MiB, totalBytes: 256 * MiB });
    expect(events.every(({ doneBytes }, index) => doneBytes >= (events[index - 1]?.doneBytes ?? 0))).toBe(true);
  });

  it('stops between two chunks', async () => {
    const { path, file } = await emptyFile();
    await shell('dd', 'if=/dev/zero', `of=${path}`, 'bs=1M', 'count=200');
    const copy = await emptyFile();
    const controller = new AbortController();
    const copying = copyImage(file.fd, copy.file.fd, 200 * MiB, {
      signal: controller.signal,
      onProgress: () => controller.abort(new Error('Ctrl-C')),
    });
    await expect(copying).rejects.toThrow('Ctrl-C');
    expect(allocatedBytes(copy.path)).toBeLessThan(100 * MiB);
  });

  it('shares blocks on XFS, and drops what lies behind the disk', async () => {
    const xfs = await xfsDirectory();
    const source = join(xfs, 'a.img');
    await rename(await recipeImage(), source).catch(async () => shell('cp', '--sparse=always', await recipeImage(), source));
    await using from = await open(source, 'r');
    await using to = await open(join(xfs, 'b.img'), 'wx+');
    expect(await copyImage(from.fd, to.fd, 128 * MiB)).toBe('reflink');
    expect((await to.stat()).size).toBe(128 * MiB);
    await shell('cmp', '-n', `${128 * MiB}`, source, join(xfs, 'b.img'));
  });

  it('copies from one file system to another', async () => {
    const xfs = await xfsDirectory();
    const { path, file } = await recipeFile();
    await using to = await open(join(xfs, 'c.img'), 'wx+');
    expect(await copyImage(file.fd, to.fd, 128 * MiB)).toBe('copy');
    await shell('cmp', path, join(xfs, 'c.img'));
  });
});

describe('writeImageToStream', () => {
  it('writes the bytes of the file that a copy would be', async () => {
    const path = await recipeImage();
    await mounted(path, 'loop', (target) => writeFile(join(target, 'x'), Buffer.alloc(3 * MiB, 7)));
    await using image = await openImage(path);
    const out = join(directory, 'streamed.img');
    const stream = createWriteStream(out);
    const events: ProgressEvent[] = [];
    await writeImageToStream([image], { ...manifestOf(image.sizeBytes), name: 'other' }, stream, {
      onProgress: (event) => events.push(event),
    });
    await new Promise((resolve) => stream.end(resolve));
    expect(statSync(out).size).toBe(128 * MiB + 64 * KiB);
    await shell('cmp', '-n', `${128 * MiB}`, path, out);
    await using copy = await openImage(out);
    expect(copy.manifest?.name).toBe('other');
    expect(events.at(-1)).toMatchObject({ doneBytes: 128 * MiB + 64 * KiB, totalBytes: 128 * MiB + 64 * KiB });
  });

  it('ends with the stream’s error, and at an abort', async () => {
    await using image = await openImage(await recipeImage());
    const manifest = manifestOf(image.sizeBytes);
    const broken = new PassThrough();
    setTimeout(() => broken.destroy(Object.assign(new Error('write EPIPE'), { code: 'EPIPE', syscall: 'write' })), 20);
    await expect(writeImageToStream([image], manifest, broken)).rejects.toMatchObject({ code: 'EPIPE' });
    const controller = new AbortController();
    setTimeout(() => controller.abort(), 20);
    await expect(writeImageToStream([image], manifest, new PassThrough(), { signal: controller.signal })).rejects.toMatchObject({
      name: 'AbortError',
    });
  });
});

describe('a sealed image', () => {
  async function sealedImage(): Promise<{ path: string; image: ImageFile }> {
    const { path, file } = await recipeFile();
    await sealNewImage(file.fd, 128 * MiB, manifestOf(128 * MiB));
    const image = await openImage(path, { write: true });
    cleanUp(() => image.close());
    return { path, image };
  }

  it('stands reading, checking and copying by stock tools', async () => {
    const { path, image } = await sealedImage();
    await expectClean(path);
    await mounted(path, 'loop,ro', (target) => shell('ls', target));
    await verifySeal(image);
    const copy = join(directory, 'sealed-copy.img');
    await shell('cp', '--sparse=always', path, copy);
    await using copied = await openImage(copy);
    await verifySeal(copied);
  });

  it.each<[string, (path: string) => Promise<unknown>]>([
    ['tune2fs', (path) => shell('tune2fs', '-L', 'changed', path)],
    ['e2fsck -fy', (path) => shell('e2fsck', '-fy', path)],
    [
      'a mount after tune2fs -O ^read-only',
      async (path) => {
        await shell('tune2fs', '-O', '^read-only', path);
        await mounted(path, 'loop', (target) => writeFile(join(target, 'x'), 'y'));
      },
    ],
  ])('shows that it was changed by %s', async (_, change) => {
    const { path, image } = await sealedImage();
    await change(path);
    await expect(verifySeal(image)).rejects.toMatchObject({
      code: 'ERR_LOOPBOX_CORRUPT',
      message: expect.stringMatching(/was changed after it was sealed/),
    });
  });

  it('is writable again after unseal', async () => {
    const { path, image } = await sealedImage();
    await unseal(image);
    await mounted(path, 'loop', (target) => writeFile(join(target, 'x'), 'y'));
    await expectClean(path);
    await using again = await openImage(path);
    expect(again.manifest).toEqual(manifestOf(128 * MiB));
  });
});

describe('NewFile', () => {
  it('leaves nothing when it is dropped', async () => {
    const place = await temporaryDirectory();
    {
      await using file = await NewFile.create(place);
      await makeFileSystem(file.fd, 128 * MiB);
      await file.close();
    }
    expect(readdirSync(place)).toEqual([]);
  });

  it('gets its name once, and replaces nothing', async () => {
    const place = await temporaryDirectory();
    const path = join(place, 'a');
    await using first = await NewFile.create(place);
    await first.publish(path);
    await using second = await NewFile.create(dirname(path));
    await expect(second.publish(path)).rejects.toMatchObject({ code: 'EEXIST', syscall: 'linkat' });
    await expect(NewFile.create(join(place, 'none'))).rejects.toMatchObject({ code: 'ENOENT' });
    expect(readdirSync(place)).toEqual(['a']);
  });

  it('takes away what a killed replacement has left, and nothing else', async () => {
    const place = await temporaryDirectory();
    const names = Array.from({ length: 4 }, () => `.tmp-${newUuid()}`);
    const [left = '', used = '', foreign = '', link = ''] = names.map((name) => join(place, name));
    await shell('cp', '--sparse=always', await recipeImage(), left);
    await shell('cp', '--sparse=always', await recipeImage(), used);
    await writeFile(foreign, 'mine');
    await symlink(used, link);
    await writeFile(join(place, '.tmp-x'), 'mine');
    await using holder = await open(used, 'r');
    expect(tryLock(holder.fd, 'exclusive')).toBe(true);
    await using file = await NewFile.create(place);
    await file.replace(join(place, 'a'));
    expect(readdirSync(place).sort()).toEqual(['.tmp-x', basename(used), basename(foreign), basename(link), 'a'].sort());
  });

  it('is renamed without replacing', async () => {
    const place = await temporaryDirectory();
    await writeFile(join(place, 'a'), '1');
    await writeFile(join(place, 'b'), '2');
    await expect(renameDurably(join(place, 'a'), join(place, 'b'))).rejects.toMatchObject({ code: 'EEXIST' });
    await mkdir(join(place, 'd'));
    await renameDurably(join(place, 'a'), join(place, 'd/c'));
    expect(await readFile(join(place, 'd/c'), 'utf8')).toBe('1');
  });
});
