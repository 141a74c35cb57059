import { release } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { attachDefault, chooseAttach } from '../../src/container/attach-choice';
import { createContainer } from '../../src/container/create';
import { Store } from '../../src/container/store';
import { openLayer } from '../../src/image/layer-file';
import { type AttachChoice, defaultConfig } from '../../src/image/manifest';
import { shell, TestStore, xfsDirectory } from '../fixtures';

vi.mock(import('node:os'), async (original) => ({ ...(await original()), release: vi.fn((await original()).release) }));

const kernel = release();
const noChange = { limits: {}, environment: {}, labels: {} };

afterEach(() => void vi.mocked(release).mockReturnValue(kernel));

async function storeWithTemplate(directory?: string): Promise<{ store: Store; testStore: TestStore }> {
  const testStore = await TestStore.create(directory);
  await testStore.importBusybox('busybox', '--size', '128M');
  return { store: new Store(testStore), testStore };
}

describe('auto', () => {
  it('is the storage server where the host has no reflinks, and containers are linked', async () => {
    const { store } = await storeWithTemplate();
    expect(await attachDefault(store)).toMatchObject({ attach: 'stack' });
    expect(await createContainer(store, 'web', { template: 'busybox', change: noChange })).toMatchObject({
      how: 'linked',
      attach: 'stack',
    });
    const sized = { template: 'busybox', change: noChange, sizeBytes: 2 ** 28 };
    expect(await createContainer(store, 'sized', sized)).toMatchObject({ how: 'linked', attach: 'stack', sizeBytes: 2 ** 28 });
    const direct = { template: 'busybox', change: { ...noChange, attach: 'direct' as const } };
    expect(await createContainer(store, 'direct', direct)).toMatchObject({ how: 'copy', attach: 'direct' });
  });

  it.each(['5.15.0-91-generic', '6.1.0-18-amd64', '6.8.12'])('is the kernel alone on Linux %s, and containers are copied', async (old) => {
    const { store } = await storeWithTemplate();
    vi.mocked(release).mockReturnValue(old);
    expect(await attachDefault(store)).toMatchObject({ attach: 'direct', reason: expect.stringContaining('older than 6.9') });
    expect(await createContainer(store, 'web', { template: 'busybox', change: noChange })).toMatchObject({ how: 'copy', attach: 'direct' });
    for (const recent of ['6.9.0', '6.12.1+deb13-amd64', '7.0.0-rc1']) {
      vi.mocked(release).mockReturnValue(recent);
      expect(await attachDefault(store)).toMatchObject({ attach: 'stack' });
    }
  });

  it('is the kernel alone where the host has reflinks, and containers share blocks', async () => {
    const { store } = await storeWithTemplate(await xfsDirectory());
    expect(await attachDefault(store)).toEqual({ attach: 'direct', reason: 'reflinks' });
    const made = await createContainer(store, 'web', { template: 'busybox', change: { ...noChange, attach: 'stack' } });
    expect(made).toMatchObject({ how: 'reflink', attach: 'stack' });
  });
});

it('what is told counts; a FILE and small blocks are attached directly unless told, a delta never', async () => {
  const { store, testStore } = await storeWithTemplate();
  await testStore.createBusybox('web', '--full');
  await testStore.createBusybox('linked', '--linked');
  const choose = async (file: string, name?: string, attach?: AttachChoice) => {
    await using top = await openLayer(file, { label: 'web' });
    return await chooseAttach(store, top, { name, ...(attach && { config: { ...defaultConfig(), attach } }) });
  };
  const image = testStore.imageOf('web');
  expect([await choose(image, 'web'), await choose(image, 'web', 'auto'), await choose(image, 'web', 'direct')]).toEqual([
    'stack',
    'stack',
    'direct',
  ]);
  expect([await choose(image), await choose(image, undefined, 'stack')]).toEqual(['direct', 'stack']);
  expect(await choose(testStore.fileOf('linked'), 'linked', 'direct')).toBe('stack');

  const small = join(testStore.root, 'small.img');
  await shell('mke2fs', '-q', '-t', 'ext4', '-b', '1024', small, '64M');
  expect([await choose(small, 'small'), await choose(small, 'small', 'auto')]).toEqual(['direct', 'direct']);
  await testStore.done('template', 'import', 'small', small);
  expect(await testStore.done('create', 'smallbox', '--template', 'small')).toMatch(
    /^smallbox: 128 MiB, copied from small; attach: direct$/,
  );
  expect(await testStore.loopbox(['create', 'no', '--linked', '--template', 'small'])).toMatchObject({
    code: 15,
    stderr: expect.stringContaining('hint: make it without --linked'),
  });
});
