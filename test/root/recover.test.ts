import { writeFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { tryLock } from '../../src/flock';
import { openLayer } from '../../src/image/layer-file';
import { recover, recoverSteps } from '../../src/image/recover';
import { MiB } from '../../src/units';
import { newUuid } from '../../src/uuid';
import { shell } from '../fixtures';
import { base, changes, cutAfter, expectCutSafe, filesOf, viewOf } from './cut-scenes';
import { block, diskBytes, folding, Layers, withBlocks } from './layers';

async function* noSteps(): AsyncGenerator<string> {}

describe('a fold that is cut', () => {
  it('before its record: what was prepared is needless', async () => {
    await expectCutSafe({
      make: async (layers) => {
        const from = await layers.image('web@mon.img', base, { sealed: true });
        const to = await layers.delta('web.delta', from, changes);
        await layers.delta('web@mon.next', to, new Map(), { state: from });
      },
      steps: noSteps,
      judge: async (layers, files) => {
        expect(files).toEqual(['web.delta', 'web@mon.img']);
        expect(await viewOf(layers, 'web.delta')).toEqual(withBlocks(base, changes));
      },
    });
  });

  it('after its record: the image promises nothing any more, and what is kept has its name', async () => {
    await expectCutSafe({
      make: async (layers) => {
        const [from, to] = [newUuid(), newUuid()];
        await layers.image('web@mon.img', base, folding(to, from, from));
        await layers.delta('web.delta', from, changes, { state: to });
        await layers.delta('web@mon.next', undefined, new Map(), {
          state: from,
          manifest: { sealed: { lengthBytes: 2 * MiB + diskBytes } },
        });
      },
      steps: noSteps,
      judge: async (layers, files) => {
        expect(files).toEqual(['web.delta', 'web@mon.delta', 'web@~1.fold']);
        expect(await viewOf(layers, 'web.delta')).toEqual(withBlocks(base, changes));
        expect(await viewOf(layers, 'web@mon.delta')).toEqual(base);
      },
    });
  });

  it('after its commit: the image takes the name of the source, which goes', async () => {
    const state = newUuid();
    const present = withBlocks(base, changes);
    for (const [fold, source, image] of [
      ['web@~1.fold', 'web.delta', 'web.img'],
      ['web.img', 'web.delta', 'web.img'],
      ['web@~7.fold', 'web@tue.delta', 'web@tue.img'],
    ] as const) {
      await expectCutSafe({
        make: async (layers) => {
          await layers.image(fold, present, { state, sealed: true });
          await layers.delta(source, newUuid(), new Map(), { state });
          await layers.delta('web@mon.delta', state, new Map([[1, 7]]), { sealed: true });
          if (source !== 'web.delta') await layers.delta('web.delta', state, changes);
        },
        steps: noSteps,
        judge: async (layers, files) => {
          expect(files).toContain(image);
          expect(files).not.toContain(source);
          expect(files.some((file) => file.endsWith('.fold'))).toBe(false);
          expect(await viewOf(layers, 'web@mon.delta')).toEqual(withBlocks(present, new Map([[1, 7]])));
          expect(await viewOf(layers, image === 'web.img' ? image : 'web.delta')).toEqual(present);
        },
      });
    }
  });
});

describe('a rename that is cut', () => {
  const container = newUuid();
  const manifest = { container, name: 'web', formerly: 'old' };

  it('after its commit is finished, with all that goes with it', async () => {
    const told: string[] = [];
    const layers = await Layers.make();
    const state = await layers.image('old@mon.img', base, { sealed: true, manifest: { container, name: 'old' } });
    await layers.delta('web.delta', state, changes, { manifest });
    await layers.image('old@stranger.img', base, { sealed: true, manifest: { container: newUuid() } });
    const options = { renameRest: async (from: string, to: string) => void told.push(`${from} ${to}`) };
    for (let cut = 0; cut < 3; cut++) await cutAfter(recoverSteps(layers.directory, 'web', options), cut);
    await recover(layers.directory, 'web', options);
    expect(filesOf(layers)).toEqual(['old@stranger.img', 'web.delta', 'web@mon.img']);
    expect(told[0]).toBe('old web');
    expect(await layers.manifest('web.delta')).toEqual(expect.not.objectContaining({ formerly: expect.anything() }));
    expect(await recover(layers.directory, 'web', options)).toEqual([]);
  });

  it('before its commit has not been', async () => {
    const layers = await Layers.make();
    await layers.image('web.img', base, { manifest: { container, name: 'new', formerly: 'web' } });
    await recover(layers.directory, 'web');
    expect(await layers.manifest('web.img')).toMatchObject({ name: 'web' });
    expect(await layers.manifest('web.img')).not.toHaveProperty('formerly');
  });

  it('is not finished over a container of the old name that has its id', async () => {
    const layers = await Layers.make();
    await layers.image('web.img', base, { manifest });
    await layers.image('old.img', base, { manifest: { container, name: 'old' } });
    await expectStopped(layers, /^Cannot recover "web": it was "old", and "old.img" is there, too$/);
  });
});

async function expectStopped(layers: Layers, message: RegExp, options: Parameters<typeof recover>[2] = {}): Promise<void> {
  const before = filesOf(layers);
  await expect(recover(layers.directory, 'web', options)).rejects.toMatchObject({ code: 'ERR_LOOPBOX_CORRUPT', message });
  expect(filesOf(layers)).toEqual(before);
}

describe('recover stops, and touches nothing,', () => {
  it('where two files claim to be the present', async () => {
    const layers = await Layers.make();
    await layers.image('web.img', base);
    await layers.delta('web.delta', newUuid(), new Map());
    await layers.delta('web.next', newUuid(), new Map());
    await expectStopped(layers, /^Cannot recover "web": both "web.img" and "web.delta" claim to be its present$/);
    writeFileSync(layers.path('web.img'), 'noise');
    await expectStopped(layers, /both "web.img" and "web.delta"/);
  });

  it('where what was prepared holds data, or can’t be read', async () => {
    const layers = await Layers.make();
    const state = await layers.image('web.img', base);
    await layers.delta(
      'web.next',
      state,
      new Map([
        [0, 1],
        [diskBytes / block - 1, 1],
      ]),
    );
    await expectStopped(layers, /^Cannot remove "web.next": it holds data that no other file has$/);
    writeFileSync(layers.path('web.next'), 'noise');
    await expectStopped(layers, /^Cannot recover "web": "web.next" can't be read$/);
  });

  it('where only what was prepared for a fold has its state', async () => {
    const layers = await Layers.make();
    await layers.image('web.img', base);
    await layers.delta('web@mon.next', newUuid(), new Map());
    await expectStopped(layers, /^Cannot recover "web": only "web@mon.next" has its state$/);
  });
});

describe('recover leaves alone', () => {
  it('other containers, and copies that somebody made of the present', async () => {
    const layers = await Layers.make();
    const state = await layers.image('web.img', base);
    await layers.image('web@copy.img', base, { state });
    await layers.delta('web@copy2.delta', newUuid(), new Map(), { state });
    await layers.delta('other.next', newUuid(), new Map());
    await layers.image('other@x.img', base);
    const before = filesOf(layers);
    expect(await recover(layers.directory, 'web')).toEqual([]);
    expect(filesOf(layers)).toEqual(before);
    expect((await layers.manifest('other@x.img')).sealed).toBeUndefined();
  });

  it('what somebody else writes to: it is not sealed', async () => {
    const layers = await Layers.make();
    const state = await layers.image('web@mon.img', base);
    await layers.delta('web.delta', state, new Map());
    await using file = await openLayer(layers.path('web@mon.img'));
    expect(tryLock(file.fd, 'exclusive')).toBe(true);
    expect(await recover(layers.directory, 'web')).toEqual([]);
    // A server keeps the lock on what was its top, until it ends.
    await using top = await openLayer(layers.path('web.delta'));
    expect(await recover(layers.directory, 'web', { live: top })).toEqual(['"web@mon.img" is sealed']);
    expect((await layers.manifest('web@mon.img')).snapshot).toMatchObject({ name: 'mon', consistency: 'crash' });
  });
});

describe('recover of a running container', () => {
  it('believes its server, which of the files is the top', async () => {
    const layers = await Layers.make();
    const state = await layers.image('web@mon.img', base, { sealed: true });
    await layers.delta('web.delta', state, changes);
    await layers.delta('web.next', state, new Map([[0, 1]]));
    await using top = await openLayer(layers.path('web.delta'));
    await using other = await openLayer(layers.path('web@mon.img'));
    await expectStopped(layers, /it runs on "web@mon.img", and its top is "web.delta"$/, { live: other });
    expect(await recover(layers.directory, 'web', { live: top })).toEqual(['"web.next" is gone']);
    await shell('mv', layers.path('web.delta'), layers.path('web@x.delta'));
    await layers.delta('web.next', state, new Map());
    await expectStopped(layers, /it runs on "web@x.delta", and its top is "missing"$/, { live: top });
  });
});
