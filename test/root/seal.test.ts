import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { sealKept } from '../../src/image/commit-top';
import { type ImageFile, openImage, writeManifest } from '../../src/image/image-file';
import { openLayer } from '../../src/image/layer-file';
import { sealNewImage, unseal, verifySeal } from '../../src/image/seal';
import { readSuperblock, setReadOnlyFeature } from '../../src/image/superblock';
import { MiB } from '../../src/units';
import { cleanUp, execute, shell } from '../fixtures';
import { overwrite } from '../image-workshop';
import { base } from './cut-scenes';
import { Layers } from './layers';
import { expectClean, features, manifestOf, mounted, newPath, recipeFile } from './whole-images';

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
    const copy = await newPath();
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

describe('a seal', () => {
  it('does not refuse a slow copy that was begun before it, and ends after it', async () => {
    const layers = await Layers.make();
    const copy = await Layers.make();
    await layers.image('web@mon.img', base);
    const { output: head } = await execute('head', ['-c', '4096', layers.path('web@mon.img')]);
    await layers.seal('web@mon.img');
    await shell('cp', layers.path('web@mon.img'), copy.path('web@mon.img'));
    await overwrite(copy.path('web@mon.img'), 0, head);
    await using file = await openLayer(copy.path('web@mon.img'));
    expect(file).toMatchObject({ superblock: { readOnly: false }, manifest: { sealed: {} } });
    await verifySeal(file);
  });

  it('is set once, also after a cut, and tells what is known of the snapshot', async () => {
    const layers = await Layers.make();
    await layers.image('web@mon.img', base);
    const commit = { directory: layers.directory, name: 'web', extension: 'img' as const, kept: 'mon' };
    const snapshot = { name: 'mon', created: '2025-01-02T03:04:05Z', consistency: 'filesystem' as const, frozenMs: 1.5 };
    await sealKept(commit, snapshot);
    const sealed = await layers.manifest('web@mon.img');
    expect(sealed.snapshot).toEqual(snapshot);
    await sealKept(commit);
    expect(await layers.manifest('web@mon.img')).toEqual(sealed);
    await using file = await openLayer(layers.path('web@mon.img'), { write: true });
    await writeManifest(file, { ...sealed, sizeBytes: 4 * MiB });
    expect(await layers.view('web@mon.img')).toEqual(base);
  });
});
