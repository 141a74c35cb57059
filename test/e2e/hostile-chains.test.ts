import { mkdir, readFile, rename, rm, symlink } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { KiB, MiB } from '../../src/units';
import { manifestOf } from '../chain-view';
import { chainedContainer } from '../chained-container';
import { execute, program, shell, type TestStore, temporaryDirectory } from '../fixtures';
import { overwrite } from '../image-workshop';
import { expectRefused } from '../refusal';
import { rawSlots } from '../unit/image/raw-slots';

type Fields = Record<string, unknown> & { mapOffset: number; mapBytes: number; dataOffset: number; state: string };

let store: TestStore;
let top: string;
let manifest: Fields;

beforeAll(async () => {
  store = await chainedContainer();
  top = store.fileOf('web');
  manifest = manifestOf(top) as unknown as Fields;
});

/** Gives a delta another manifest while `body` runs. */
async function withManifest(path: string, json: string, body: () => Promise<void>): Promise<void> {
  const before = (await readFile(path)).subarray(0, 64 * KiB);
  await overwrite(path, 0, rawSlots(json));
  try {
    await body();
  } finally {
    await overwrite(path, 0, before);
  }
}

/** It is neither started nor checked, and nothing attached; the file is named, also in a list where it tells by itself that it can't be. */
async function expectRefusedByName(word: string, { isSeenAlone = true } = {}): Promise<void> {
  await expectRefused(store, ['start', 'web'], 13, 'web', word);
  expect(await store.loopbox(['check', 'web'], { timeoutMs: 60_000 })).toMatchObject({ code: 13 });
  if (!isSeenAlone) return;
  const failed = (await store.json('ls')) as { name: string; state: string; reason?: string }[];
  expect(failed.find(({ name }) => name === 'web')).toMatchObject({ state: 'failed', reason: expect.stringContaining(word) });
}

describe('a delta is refused (13), by name,', () => {
  const last = Number.MAX_SAFE_INTEGER - (Number.MAX_SAFE_INTEGER % MiB);

  it.each<[string, (fields: Fields) => object, string]>([
    ['whose disk has 2^63 bytes', () => ({ sizeBytes: 2 ** 63 }), '"sizeBytes"'],
    ['whose disk has 2^63 - 1 bytes', () => ({ sizeBytes: '@9223372036854775807' }), '"sizeBytes"'],
    ['whose disk is as large as numbers go', () => ({ sizeBytes: last }), '"mapBytes"'],
    [
      'whose disk is as large as numbers go, with its map',
      () => ({ sizeBytes: last, mapBytes: 2 ** 40, dataOffset: 2 ** 41 }),
      '"dataOffset"',
    ],
    ['whose disk is larger than its file', ({ sizeBytes }) => ({ sizeBytes: (sizeBytes as number) + MiB }), 'it is cut short'],
    ['whose disk is smaller than nothing', () => ({ sizeBytes: -MiB }), '"sizeBytes"'],
    ['whose map lies in its manifest', () => ({ mapOffset: 32 * KiB }), '"mapOffset"'],
    ['whose map is not aligned', () => ({ mapOffset: MiB + 1 }), '"mapOffset"'],
    ['whose map and data overlap', ({ dataOffset }) => ({ mapOffset: dataOffset - 4 * KiB, mapBytes: 8 * KiB }), '"dataOffset"'],
    ['whose data lie before its map', ({ dataOffset }) => ({ mapOffset: dataOffset + MiB }), '"dataOffset"'],
    ['whose map is too short for its disk', () => ({ mapBytes: 0 }), '"mapBytes"'],
    ['whose map lies behind its file', () => ({ mapOffset: 2 ** 50, dataOffset: 2 ** 51 }), 'it is cut short'],
    ['whose offsets are no numbers', () => ({ mapOffset: '1048576' }), '"mapOffset"'],
    ['whose offsets are beyond all numbers', () => ({ dataOffset: 1e308 }), '"dataOffset"'],
    ['which stands on no state', () => ({ parent: { state: '../../etc/passwd' } }), '"parent.state"'],
  ])('%s', async (_, change, word) => {
    const json = JSON.stringify({ ...manifest, ...change(manifest) }).replace(/"@(\d+)"/, '$1');
    await withManifest(top, json, () => expectRefusedByName(word));
  });

  it.each<[string, string, (fields: Fields) => object, string]>([
    ['which stands on its own state', 'web.delta', ({ state }) => ({ parent: { state } }), 'which is not here'],
    ['which stands on nothing', 'web.delta', () => ({ parent: undefined }), 'does not say what it stands on'],
    ['whose parent stands on itself', 'web@tue.delta', ({ state }) => ({ parent: { state } }), '"web@tue.delta" needs'],
    ['whose parent stands on it', 'web@tue.delta', () => ({ parent: { state: manifest.state } }), 'which is not here'],
  ])('%s', async (_, name, change, word) => {
    const path = join(store.root, 'containers', name);
    const fields = manifestOf(path) as unknown as Fields;
    await withManifest(path, JSON.stringify({ ...fields, ...change(fields) }), () => expectRefusedByName(word, { isSeenAlone: false }));
  });
});

it('what a hint names, or a link in the store leads to, is never opened', async () => {
  const elsewhere = await temporaryDirectory();
  const [containers, templates] = [join(store.root, 'containers'), join(store.root, 'templates')];
  const image = join(containers, 'web@mon.img');
  const moved = join(elsewhere, 'web@mon.img');
  const lower = join(containers, 'web@tue.delta');
  const fields = manifestOf(lower);
  const state = (fields.parent as { state: string }).state;
  await rename(image, moved);
  await mkdir(join(containers, 'directory.img'));
  await shell('mkfifo', join(containers, 'fifo.img'));
  await symlink(moved, image);
  await symlink(moved, join(templates, 'link.img'));
  await symlink(elsewhere, join(containers, 'links'));
  try {
    for (const hint of ['web@mon.img', 'link.img', 'fifo.img', 'directory.img', 'links/web@mon.img', moved, `../../../..${moved}`]) {
      const json = JSON.stringify({ ...fields, parent: { state, hint } });
      const trace = join(elsewhere, 'trace');
      await withManifest(lower, json, async () => {
        const args = ['-f', '-y', '-e', 'trace=open,openat,openat2,name_to_handle_at', '-o', trace, process.execPath, program];
        const result = await execute('strace', [...args, 'start', 'web'], { env: store.environment });
        expect([hint, result.code, result.stderr]).toEqual([hint, 13, expect.stringMatching(/needs "[^\n]*" \(state .*which is not here/)]);
      });
      const opened = [...(await readFile(trace, 'utf8')).matchAll(/ = \d+<([^>]*)>/g)].map(([, path]) => path ?? '');
      expect(opened).toContain(lower);
      expect(opened.filter((path) => path.startsWith(elsewhere) || /fifo|directory\.img/.test(path))).toEqual([]);
    }
  } finally {
    for (const path of [image, join(templates, 'link.img'), join(containers, 'links'), join(containers, 'fifo.img')]) await rm(path);
    await rm(join(containers, 'directory.img'), { recursive: true });
    await rename(moved, image);
  }
  await store.done('start', 'web');
  await store.done('stop', '-t', '0', 'web');
});
