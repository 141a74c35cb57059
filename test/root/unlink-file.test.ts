import { describe, expect, it } from 'vitest';
import { openDelta } from '../../src/image/delta-file';
import { writeManifest } from '../../src/image/image-file';
import type { IndexedFile } from '../../src/image/state-index';
import { unlinkNeedless } from '../../src/image/unlink-file';
import { shell } from '../fixtures';
import { base, filesOf } from './cut-scenes';
import { Layers } from './layers';

describe('unlinkNeedless', () => {
  async function scene() {
    const layers = await Layers.make();
    const state = await layers.image('web@mon.img', base, { sealed: true });
    const parent = await layers.delta(
      'web@~1.delta',
      state,
      new Map([
        [1, 1],
        [2, 2],
      ]),
    );
    await layers.delta('web.delta', parent, new Map([[1, 1]]));
    const find = async (fileName: string) => {
      const index = await layers.scan();
      return { index, file: index.files.find((file) => file.fileName === fileName) as IndexedFile };
    };
    const absorb = async () => {
      const { index, file } = await find('web@~1.delta');
      return unlinkNeedless(file, { why: 'absorbed', by: (await find('web.delta')).file, index });
    };
    const relink = async () => {
      await using file = await openDelta(layers.path('web.delta'), { write: true });
      await writeManifest(file, { ...file.manifest, parent: { state } });
    };
    return { layers, find, absorb, relink };
  }

  it('takes away what was absorbed, once the child has all of it and stands on what it stood on', async () => {
    const { layers, absorb, relink } = await scene();
    await expect(absorb()).rejects.toThrow('Cannot remove "web@~1.delta": "web.delta" stands on it');
    await relink();
    await expect(absorb()).rejects.toThrow('Cannot remove "web@~1.delta": "web.delta" lacks blocks of it');
    await layers.write('web.delta', new Map([[2, 2]]));
    await absorb();
    expect(filesOf(layers)).toEqual(['web.delta', 'web@mon.img']);
  });

  it('takes away what nobody stands on, nothing else, and nothing that was replaced', async () => {
    const { layers, find, relink } = await scene();
    const { index, file } = await find('web@~1.delta');
    await expect(unlinkNeedless(file, { why: 'childless', index })).rejects.toMatchObject({ code: 'ERR_LOOPBOX_CORRUPT' });
    await expect(unlinkNeedless(file, { why: 'prepared' })).rejects.toThrow('it is more than prepared');
    await expect(unlinkNeedless(file, { why: 'provided', by: file })).rejects.toThrow('does not hold its state');
    await relink();
    const now = await find('web@~1.delta');
    await shell('cp', file.path, layers.path('copy'));
    await shell('mv', layers.path('copy'), file.path);
    await expect(unlinkNeedless(now.file, { why: 'childless', index: now.index })).rejects.toThrow('it was replaced meanwhile');
    const replaced = await find('web@~1.delta');
    await unlinkNeedless(replaced.file, { why: 'childless', index: replaced.index });
    expect(filesOf(layers)).toEqual(['web.delta', 'web@mon.img']);
  });
});
