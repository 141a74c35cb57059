import { beforeAll, describe, expect, it } from 'vitest';
import { KiB } from '../../src/units';
import { busyboxTar, type TestStore } from '../fixtures';
import { ImageWorkshop } from '../image-workshop';
import { storeFiles } from '../refusal';

let images: ImageWorkshop;
let store: TestStore;

beforeAll(async () => {
  images = await ImageWorkshop.open();
  ({ store } = images);
});

describe('usage that can not be meant is refused with 2, before anything is done:', () => {
  const bad = ['UPPER', '-x', '.hidden', '..', 'with space', 'ümlaut', 'x'.repeat(64), 'new\nline', 'a:b', '_x', ''];

  it('names of containers', async () => {
    for (const name of bad) {
      for (const args of [
        ['create', '--template', 't', '--', name],
        ['import', images.exported, name],
        ['rename', 'base', name],
        ['run', '-d', '--template', 't', name],
      ]) {
        if (name.startsWith('-') || args.includes('--')) continue;
        expect([name, args[0], (await store.loopbox(args)).code]).toEqual([name, args[0], 2]);
      }
      expect([name, (await store.loopbox(['create', name, '--template', 't'])).code]).toEqual([name, 2]);
    }
    expect(storeFiles(store)).toEqual(['base.img', 't.img']);
  });

  it('names of templates', async () => {
    for (const name of [...bad.filter((name) => name !== 'a:b'), 'a:', ':b', 'a:b:c', 'a:ü', `a:${'x'.repeat(33)}`]) {
      expect([name, (await store.loopbox(['template', 'import', name, await busyboxTar()])).code]).toEqual([name, 2]);
      expect([name, (await store.loopbox(['template', 'create', name, '--from', 'base'])).code]).toEqual([name, 2]);
    }
    expect(storeFiles(store)).toEqual(['base.img', 't.img']);
  });

  it('sizes: no size, below the template’s, below the image’s', async () => {
    await store.done('template', 'import', '--size', '256M', 'large', await busyboxTar());
    for (const size of ['0', '-1', 'x', '1Z', '1e3', '']) {
      expect([size, (await store.loopbox(['create', 'new', '--template', 't', '--size', size])).code]).toEqual([size, 2]);
    }
    const image = await images.foreignImage(256 * KiB);
    for (const args of [
      ['create', 'new', '--linked', '--template', 'large', '--size', '128M'],
      ['create', 'new', '--full', '--template', 'large', '--size', '128M'],
      ['run', '-d', '--template', 'large', '--size', '128M', 'new'],
      ['template', 'import', 'new', image, '--size', '128M'],
    ]) {
      expect(await store.loopbox(args)).toMatchObject({ code: 2, stderr: expect.stringContaining('256 MiB') });
    }
    await store.done('template', 'rm', 'large');
    expect(storeFiles(store)).toEqual(['base.img', 't.img']);
  });
});
