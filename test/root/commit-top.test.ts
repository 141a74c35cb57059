import { describe, expect, it } from 'vitest';
import { readBlocks } from '../../src/image/chain';
import { namesOfCommit, prepareTop, replaceSteps, replaceTop } from '../../src/image/commit-top';
import type { Manifest } from '../../src/image/manifest';
import { recover } from '../../src/image/recover';
import { parseSuperblock } from '../../src/image/superblock';
import { KiB } from '../../src/units';
import { base, changes, expectCutSafe, filesOf, viewOf } from './cut-scenes';
import { block, type Disk, diskOf, emptyDisk, Layers, withBlocks } from './layers';

/** A commit of a new top over `top`, as a snapshot of a stopped container takes it. */
async function commitOf(layers: Layers, top: string, kept: string, on = top) {
  await using chain = await layers.chain(on);
  const { config, name, container, created } = chain.top.manifest as Manifest;
  const commit = {
    directory: layers.directory,
    name: 'web',
    extension: top.endsWith('.img') ? ('img' as const) : ('delta' as const),
    kept,
  };
  const next = {
    directory: layers.directory,
    name: 'web',
    sizeBytes: chain.sizeBytes,
    parent: { state: chain.top.manifest?.state ?? '', hint: on === top ? namesOfCommit(commit).kept : on },
    block0: await readBlocks(chain, 0, block),
    manifest: { config, created, ...(name && { name }), ...(container && { container }) },
  };
  return { next, commit };
}

async function* commitSteps(...args: Parameters<typeof commitOf>): AsyncGenerator<string> {
  const { next, commit } = await commitOf(...args);
  yield* replaceSteps(next, commit, { name: 'mon', created: '2025-01-02T03:04:05Z', consistency: 'stopped' });
}

describe('a commit that is cut after any step, and recovered with cuts, leaves the old top or the new one:', () => {
  it('over an image', async () => {
    await expectCutSafe({
      make: async (layers) => void (await layers.image('web.img', base)),
      steps: (layers) => commitSteps(layers, 'web.img', 'mon'),
      judge: async (layers, files, done) => {
        if (done < 2) expect(files).toEqual(['web.img']);
        else await expectSnapshot(layers, files, 'web@mon.img', base);
        expect(await viewOf(layers, done < 2 ? 'web.img' : 'web.delta')).toEqual(base);
      },
    });
  });

  it('over a chain, without a name', async () => {
    await expectCutSafe({
      make: async (layers) => {
        const state = await layers.image('web@mon.img', base, { sealed: true });
        await layers.delta('web.delta', state, changes);
      },
      steps: (layers) => commitSteps(layers, 'web.delta', '~1'),
      judge: async (layers, files, done) => {
        expect(files).toEqual(done < 2 ? ['web.delta', 'web@mon.img'] : ['web.delta', 'web@mon.img', 'web@~1.delta']);
        expect(await viewOf(layers, 'web.delta')).toEqual(withBlocks(base, changes));
        if (done >= 2) expect((await layers.manifest('web@~1.delta')).sealed).toBeDefined();
      },
    });
  });

  it('on an older snapshot: a restore', async () => {
    await expectCutSafe({
      make: async (layers) => {
        const state = await layers.image('web@mon.img', base, { sealed: true });
        await layers.delta('web.delta', state, changes);
      },
      steps: (layers) => commitSteps(layers, 'web.delta', 'before-restore', 'web@mon.img'),
      judge: async (layers, files, done) => {
        expect(await viewOf(layers, 'web.delta')).toEqual(done < 2 ? withBlocks(base, changes) : base);
        if (done >= 2) await expectSnapshot(layers, files, 'web@before-restore.delta', withBlocks(base, changes));
      },
    });
  });

  async function expectSnapshot(layers: Layers, files: string[], fileName: string, disk: Disk): Promise<void> {
    expect(files).toEqual(['web.delta', ...files.filter((file) => file.startsWith('web@'))]);
    expect(await layers.manifest(fileName)).toMatchObject({
      sealed: {},
      snapshot: { consistency: expect.stringMatching(/stopped|crash/) },
    });
    expect(await layers.view(fileName)).toEqual(disk);
  }
});

describe('a new top', () => {
  it('owns block 0, of its parent’s view, and can be written to whatever it stands on', async () => {
    const layers = await Layers.make();
    await layers.image('web@mon.img', base, { sealed: true });
    await layers.image('web.img', emptyDisk());
    const { next, commit } = await commitOf(layers, 'web.img', 'tue', 'web@mon.img');
    expect(parseSuperblock(next.block0.subarray(KiB, 2 * KiB))).toMatchObject({ readOnly: true });
    await replaceTop(next, commit);
    await using chain = await layers.chain('web.delta');
    const head = await readBlocks(chain, 0, block);
    expect(parseSuperblock(head.subarray(KiB, 2 * KiB))).toMatchObject({ readOnly: false, checksumValid: true });
    expect(diskOf(head)).toEqual([9]);
    expect((await layers.manifest('web@tue.img')).sealed).toMatchObject({ superblockCrc32c: expect.any(Number) });
  });

  it('is refused where one is prepared already, or the kept name is taken: nothing changes', async () => {
    const layers = await Layers.make();
    const state = await layers.image('web.img', base);
    const { next, commit } = await commitOf(layers, 'web.img', 'mon');
    await prepareTop(next);
    await expect(prepareTop(next)).rejects.toMatchObject({ code: 'EEXIST' });
    await recover(layers.directory, 'web');
    await layers.delta('web@mon.img', state, new Map());
    await expect(replaceTop(next, commit)).rejects.toMatchObject({ code: 'EEXIST' });
    await recover(layers.directory, 'web');
    expect(filesOf(layers)).toEqual(['web.img', 'web@mon.img']);
  });
});
