import { renameSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { resolveChain } from '../../src/image/chain';
import { indexForChain } from '../../src/image/chain-index';
import { openLayer } from '../../src/image/layer-file';
import { StateIndex } from '../../src/image/state-index';
import { shell } from '../fixtures';
import { emptyDisk, Layers, namesOf } from './layers';

describe('the index for a chain', () => {
  it('looks at no more files than the chain takes, where that is certain', async () => {
    const layers = await Layers.make();
    const templates = await Layers.make();
    const hinted = (state: string, hint: string) => ({ manifest: { parent: { state, hint } } });
    const base = await templates.image('base.img', emptyDisk(), { sealed: true });
    for (let count = 0; count < 5; count++) await layers.delta(`other${count}.delta`, base, new Map());
    const shared = await layers.delta('shared@mon.delta', base, new Map(), { sealed: true, ...hinted(base, 'base.img') });
    const lower = await layers.delta('web@mon.delta', shared, new Map(), { sealed: true, ...hinted(shared, 'shared@mon.delta') });
    await layers.delta('web.delta', lower, new Map(), hinted(lower, 'whatever it was'));
    await layers.delta('web@fork.delta', lower, new Map());
    const look = async (chained = ['base.img', 'shared@mon.delta', 'web@mon.delta', 'web.delta']) => {
      await using top = await openLayer(layers.path('web.delta'));
      const options = { containersDirectory: layers.directory };
      const index = await indexForChain(top, [layers.directory, templates.directory], options);
      await using chain = await resolveChain(await openLayer(top.path), index);
      expect(namesOf(chain.layers)).toEqual(chained);
      return index.files.map(({ fileName }) => fileName).sort();
    };
    expect(await look()).toEqual(['base.img', 'shared@mon.delta', 'web.delta', 'web@fork.delta', 'web@mon.delta']);
    // One that is not sealed may be an old copy: all are looked at.
    await shell('mv', layers.path('shared@mon.delta'), layers.path('other@of-another-name.delta'));
    await layers.delta('shared@mon.delta', base, new Map([[1, 1]]), { state: shared });
    expect((await look(['base.img', 'other@of-another-name.delta', 'web@mon.delta', 'web.delta'])).length).toBe(11);
  });

  it('has a file that gets another name while it is looked for', async () => {
    const layers = await Layers.make();
    const base = await layers.image('web@mon.img', emptyDisk(), { sealed: true });
    const top = await layers.delta('web.delta', base, new Map());
    const next = await layers.delta('web.next', top, new Map());
    const rename = (from: string, to: string) => renameSync(layers.path(from), layers.path(to));
    const look = async (change: () => void) => {
      // What is looked at is asked when the directory has been read, and the files have not.
      let isFirst = true;
      const only = () => {
        if (isFirst) change();
        isFirst = false;
        return true;
      };
      const { files } = await StateIndex.scan([layers.directory], { containersDirectory: layers.directory, only, seen: new Map() });
      return Object.fromEntries(files.map(({ fileName, manifest }) => [fileName, manifest.state]));
    };
    expect(await look(() => rename('web@mon.img', 'web@sun.img'))).toEqual({ 'web@sun.img': base, 'web.delta': top, 'web.next': next });
    const commit = () => {
      rename('web.delta', 'web@mon.delta');
      rename('web.next', 'web.delta');
    };
    expect(await look(commit)).toEqual({ 'web@sun.img': base, 'web@mon.delta': top, 'web.delta': next });
  });
});
