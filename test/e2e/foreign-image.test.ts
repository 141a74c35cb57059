import { stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { KiB } from '../../src/units';
import { shell, type TestStore } from '../fixtures';
import { ImageWorkshop } from '../image-workshop';
import { expectRefused } from '../refusal';
import { mounted } from '../trees';

let images: ImageWorkshop;
let store: TestStore;

beforeAll(async () => {
  images = await ImageWorkshop.open();
  ({ store } = images);
});

describe('an image of somebody else works: run, imported, as a template', () => {
  async function expectWorks(path: string, hasFile?: string): Promise<void> {
    const before = await stat(path);
    const command = ['sh', '-c', `cat ${hasFile ?? '/etc/os-release'} && echo new > /root/new`];
    const run = await store.loopbox(['run', path, '--', ...command]);
    expect(run).toMatchObject({ code: 0, stderr: '' });
    expect((await stat(path)).size).toBe(before.size);
    await shell('e2fsck', '-fn', path);
    await store.done('import', path, 'imported');
    await store.done('set', 'imported', '--', 'sleep', '1000');
    await store.done('start', 'imported');
    expect(await store.done('exec', 'imported', 'cat', hasFile ?? '/etc/os-release', '/root/new')).toBe(`${run.stdout}new`);
    await store.done('rm', '-f', 'imported');
    await store.done('template', 'import', 'imported', path);
    const created = await store.loopbox(['run', '--rm', '--template', 'imported', '--', ...command]);
    expect(created).toMatchObject({ code: 0, stdout: run.stdout });
    await store.done('template', 'rm', 'imported');
  }

  it('with blocks of 1 KiB', async () => {
    await expectWorks(await images.foreignImage(64 * KiB, '-b', '1024'));
  });

  it('as mke2fs makes it here', async () => {
    await expectWorks(await images.foreignImage(128 * KiB));
  });

  it('without journal, checksums and extents', async () => {
    await expectWorks(await images.foreignImage(64 * KiB, '-O', '^has_journal,^metadata_csum,^extent,^64bit'));
  });

  it('with a journal that was not replayed', async () => {
    for (const args of [[], ['-b', '1024']]) {
      const path = await images.foreignImage(64 * KiB, ...args);
      const unclean = images.nextPath();
      await mounted(path, 'loop', async (target) => {
        await writeFile(join(target, 'journaled'), 'from the journal\n');
        await shell('sync', '-f', target);
        await shell('cp', '--sparse=always', path, unclean);
      });
      expect(await shell('dumpe2fs', '-h', unclean)).toContain('needs_recovery');
      await expectWorks(unclean, '/journaled');
    }
  });

  it('of ours that a container was killed in', async () => {
    const unclean = images.nextPath();
    await mounted(images.exported, 'loop', async (target) => {
      await writeFile(join(target, 'journaled'), 'from the journal\n');
      await shell('sync', '-f', target);
      await shell('cp', '--sparse=always', images.exported, unclean);
    });
    await expectWorks(unclean, '/journaled');
  });

  it('of a size that no manifest can stand behind, as long as none must', async () => {
    const path = await images.foreignImage(64 * KiB + 20);
    expect(await store.loopbox(['run', path, '--', 'echo', 'it runs'])).toMatchObject({ code: 0, stdout: 'it runs\n', stderr: '' });
    await expectRefused(store, ['import', path, 'new'], 15, 'not a multiple of 1 MiB');
    await expectRefused(store, ['template', 'import', 'new', path], 15, 'not a multiple of 1 MiB');
    await expectRefused(store, ['template', 'create', 'new', '--from', path], 15, 'not a multiple of 1 MiB');
    await expectRefused(store, ['export', path, images.nextPath()], 15, 'it has no manifest');
    await store.done('import', '--rescue', path, 'rescued');
    await store.done('rm', 'rescued');
  });
});
