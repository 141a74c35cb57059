import { createWriteStream, statSync } from 'node:fs';
import { open, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { describe, expect, it } from 'vitest';
import { copyImage } from '../../src/image/copy-image';
import { openImage } from '../../src/image/image-file';
import { writeImageToStream } from '../../src/image/stream-image';
import type { ProgressEvent } from '../../src/progress';
import { KiB, MiB } from '../../src/units';
import { shell, xfsDirectory } from '../fixtures';
import { allocatedBytes, emptyFile, manifestOf, mounted, newPath, recipeFile, recipeImage } from './whole-images';

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
    const out = await newPath();
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
    const writing = writeImageToStream([image], manifest, broken);
    await expect.poll(() => broken.writableNeedDrain).toBe(true);
    broken.destroy(Object.assign(new Error('write EPIPE'), { code: 'EPIPE', syscall: 'write' }));
    await expect(writing).rejects.toMatchObject({ code: 'EPIPE' });
    const controller = new AbortController();
    setTimeout(() => controller.abort(), 20);
    await expect(writeImageToStream([image], manifest, new PassThrough(), { signal: controller.signal })).rejects.toMatchObject({
      name: 'AbortError',
    });
  });
});
