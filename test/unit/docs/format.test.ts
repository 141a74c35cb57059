import { execFile } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { open, truncate } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, describe, expect, it } from 'vitest';
import { placeManifest, openImage, writeManifest } from '../../../src/image/image-file';
import type { Geometry } from '../../../src/image/delta-geometry';
import { type Manifest, noState, parseManifest } from '../../../src/image/manifest';
import { KiB, MiB } from '../../../src/units';
import { parseFileBlocks } from '../../file-blocks';
import { sampleManifest, superblockBytes, uuids } from '../image/golden';

const document = readFileSync(join(import.meta.dirname, '../../../docs/format.md'), 'utf8');

type Full<T> = Required<Omit<T, 'formatMinor' | 'config'>> & {
  config: Required<Omit<Manifest['config'], 'limits' | 'hooks'>> & {
    limits: Required<Manifest['config']['limits']>;
    hooks: Required<NonNullable<Manifest['config']['hooks']>>;
  };
};

/** Two manifests that have every key that there is between them: the compiler sees to that. */
const common = {
  container: uuids.container,
  state: uuids.state,
  name: 'web',
  sizeBytes: 2 * MiB,
  created: '2025-01-02T03:04:05.678Z',
  started: '2025-01-02T03:04:06.678Z',
  template: { name: 'base:1', state: uuids.state },
  snapshot: {
    name: 'mon',
    created: '2025-01-02T03:04:05Z',
    consistency: 'application' as const,
    frozenMs: 2.5,
    description: 'x',
    hooks: { pre: 0, post: 1 },
  },
  formerly: 'old',
  identity: 'pending' as const,
  config: {
    command: ['/bin/true'],
    environment: {},
    workdir: '/',
    user: 'root',
    hostname: 'web',
    stopSignal: 'SIGTERM',
    limits: { memoryBytes: 64 * MiB, cpus: 0.5, pids: 40 },
    labels: {},
    attach: 'auto' as const,
    settle: 'never' as const,
    hooks: { pre: 'sync', post: 'true', timeoutSeconds: 1 },
  },
};
const fullImage = {
  ...common,
  kind: 'image',
  state: noState,
  sealed: { lengthBytes: 2 * MiB + 64 * KiB, superblockCrc32c: 1 },
  fold: { to: uuids.state, was: uuids.container, cursor: 0, keep: uuids.container },
} satisfies Full<Omit<Manifest, 'parent' | keyof Geometry>>;
const fullDelta = {
  ...common,
  kind: 'delta',
  parent: { state: uuids.state, hint: 'base.img' },
  mapOffset: MiB,
  mapBytes: 4 * KiB,
  dataOffset: 2 * MiB,
  sealed: { lengthBytes: 4 * MiB, mapCrc32c: 1 },
} satisfies Full<Omit<Manifest, 'fold'>>;

function keysOf(value: object, prefix = ''): string[] {
  return Object.entries(value).flatMap(([key, one]: [string, unknown]) => {
    const nested = typeof one === 'object' && one !== null && !Array.isArray(one) ? keysOf(one, `${prefix}${key}.`) : [];
    return [`${prefix}${key}`, ...nested];
  });
}

function without(path: string): string {
  const isInImage = keysOf(fullImage).includes(path);
  const copy = structuredClone(isInImage ? fullImage : fullDelta) as object as Record<string, object>;
  const parts = path.split('.');
  const last = parts.pop() as string;
  const parent = parts.reduce((object, part) => object[part] as Record<string, object>, copy);
  delete parent[last];
  return JSON.stringify({ ...copy, ...(path === 'fold' && { state: uuids.state }) });
}

describe("docs/format.md's table of keys", () => {
  const rows = [...document.matchAll(/^\| `([a-zA-Z0-9.]+)` \| \w+ \| (yes|no) \|/gm)];

  it('lists every key that the parser knows, and no other', () => {
    const listed = rows.map(([, key]) => key);
    const known = new Set([...keysOf(fullImage), ...keysOf(fullDelta)]);
    expect(new Set(listed)).toEqual(known);
    expect(listed.length).toBe(known.size);
    for (const full of [fullImage, fullDelta]) expect(parseManifest(JSON.stringify(full), 'x').ignored).toEqual([]);
  });

  it.each(rows.map(([, key = '', required]) => [key, required] as const))('says whether "%s" is required (%s)', (key, required) => {
    const parse = () => parseManifest(without(key), 'x');
    if (required === 'yes') expect(parse).toThrow(`"${key}" must be there`);
    else expect(parse).not.toThrow();
  });
});

describe("docs/format.md's reader", () => {
  const directory = mkdtempSync(join(tmpdir(), 'loopbox-format-'));
  afterAll(() => rmSync(directory, { recursive: true }));
  const script = join(directory, 'read-image.py');
  writeFileSync(script, parseFileBlocks(document).find(({ name }) => name === 'read-image.py')?.content ?? '');
  let count = 0;

  async function image(manifest?: Manifest): Promise<string> {
    const path = join(directory, `${++count}.img`);
    await using file = await open(path, 'wx+');
    await file.truncate(2 * MiB);
    await file.write(superblockBytes(), 0, 1024, 1024);
    if (manifest) await placeManifest(file.fd, manifest.sizeBytes, manifest);
    return path;
  }

  async function overwrite(path: string, position: number, bytes: Uint8Array): Promise<void> {
    await using file = await open(path, 'r+');
    await file.write(bytes, 0, bytes.length, position);
  }

  /** What the reader prints, or the error that it ends with. */
  async function read(path: string): Promise<unknown> {
    try {
      return JSON.parse((await promisify(execFile)('python3', [script, path])).stdout);
    } catch (error) {
      return (error as { stderr: string }).stderr.trim();
    }
  }

  async function expectSameManifest(path: string): Promise<void> {
    await using opened = await openImage(path);
    expect(opened.manifest).toBeDefined();
    expect(await read(path)).toEqual(opened.manifest);
  }

  it('has fewer than 60 lines', () => {
    expect(readFileSync(script, 'utf8').trim().split('\n').length).toBeLessThan(60);
  });

  it('finds the manifest at the end, the newer slot of two', async () => {
    const path = await image(sampleManifest());
    await using opened = await openImage(path, { write: true });
    await writeManifest(opened, sampleManifest({ name: 'newer' }));
    await expectSameManifest(path);
    expect(await read(path)).toMatchObject({ name: 'newer' });
  });

  it('takes the older slot where the newer one is torn', async () => {
    const path = await image(sampleManifest());
    await overwrite(path, 2 * MiB + 32 * KiB, new Uint8Array([0x7d]));
    await expectSameManifest(path);
  });

  it('finds the manifest of a lengthened file, and one behind a grow that was cut short', async () => {
    const lengthened = await image(sampleManifest());
    await truncate(lengthened, 7 * MiB + 5);
    await expectSameManifest(lengthened);
    await expectSameManifest(await image(sampleManifest({ sizeBytes: 5 * MiB })));
  });

  it('tells a lost manifest from a foreign image, one outgrown or cut short, and what is no image', async () => {
    const lost = await image(sampleManifest());
    await truncate(lost, 2 * MiB);
    const outgrown = await image(sampleManifest());
    await overwrite(outgrown, 1024, superblockBytes({ sizeBytes: 2 * MiB + 16 * KiB }));
    const cut = await image(sampleManifest());
    await truncate(cut, MiB);
    expect(await read(lost)).toBe('its manifest is lost');
    expect(await read(cut)).toBe('cut short');
    expect(await read(outgrown)).toBe('its file system has outgrown it');
    expect(await read(await image())).toBe('no manifest: a foreign image');
    expect(await read(script)).toBe('not an ext4 image');
  });
});
