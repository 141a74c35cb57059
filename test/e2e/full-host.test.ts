import { existsSync, readdirSync } from 'node:fs';
import { rm, statfs, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { KiB, MiB } from '../../src/units';
import { busyboxTar, execute, program, shell, smallFileSystem, TestStore, temporaryDirectory, xfsDirectory } from '../fixtures';
import { heldByKernel } from '../remains';

/** How much of the host is left for a verb: nothing, or enough for the first, the next, or nearly all of its steps. */
const rooms = [0, 256 * KiB, MiB, 2 * MiB, 3 * MiB, 4 * MiB, 5 * MiB, 24 * MiB];

/** What a verb makes, if there is room. */
interface Verb {
  args: string[];
  /** Takes the result away again. */
  undo: string[];
}

async function freeBytes(place: string): Promise<number> {
  await shell('sync', '-f', place);
  const { bavail, bsize } = await statfs(place);
  return bavail * bsize;
}

/** Runs `body` on a file system that is full but for `room` bytes. */
async function withRoom<T>(place: string, room: number, body: () => Promise<T>): Promise<T> {
  const filler = join(place, 'filler');
  try {
    // A file this large needs some blocks for itself: the last bytes are written until there is no room for more.
    await shell('fallocate', '-l', String((await freeBytes(place)) - room - MiB), filler);
    const rest = (await freeBytes(place)) - room;
    await execute('dd', ['if=/dev/zero', `of=${filler}.rest`, 'bs=4k', `count=${Math.ceil(rest / (4 * KiB))}`]);
    return await body();
  } finally {
    await rm(filler, { force: true });
    await rm(`${filler}.rest`, { force: true });
  }
}

function filesIn(store: TestStore): string[] {
  return ['containers', 'templates', '.'].flatMap((name) => readdirSync(join(store.root, name)).map((file) => join(name, file))).sort();
}

/**
 * Runs the verb with ever more room; with the most it must be done. Whatever fails does so with 14, and leaves no file, no loop
 * device and as much space as before. Returns how often it failed.
 */
async function expectAllOrNothing(place: string, store: TestStore, { args, undo }: Verb): Promise<number> {
  let failures = 0;
  for (const room of rooms) {
    const code = await withRoom(place, room, async () => {
      const [files, free] = [filesIn(store), await freeBytes(place)];
      const result = await store.loopbox(args);
      if (result.code === 0) return 0;
      expect([room, result.code, result.stderr]).toEqual([room, 14, expect.stringMatching(/^loopbox: Cannot .*(space|full)/)]);
      expect(filesIn(store)).toEqual(files);
      await expect.poll(() => heldByKernel(store)).toEqual([]);
      await expect.poll(() => freeBytes(place)).toBeGreaterThanOrEqual(free);
      return result.code;
    });
    if (code === 0) await store.done(...undo);
    else failures++;
  }
  expect(failures).toBeLessThan(rooms.length);
  return failures;
}

/** A store in `place`, with a template, a container and a file that it was exported to. */
async function storeIn(place: string): Promise<{ store: TestStore; exported: string }> {
  const store = await TestStore.create(place);
  await store.done('template', 'import', '--size', '128M', 't', await busyboxTar());
  await store.done('create', 'base', '--full', '--template', 't', '--', 'true');
  const exported = join(await temporaryDirectory(), 'exported.img');
  await store.done('export', 'base', exported);
  return { store, exported };
}

describe('where the host is full', () => {
  let place: string;
  let store: TestStore;
  let exported: string;

  beforeAll(async () => {
    place = await smallFileSystem(96 * MiB);
    ({ store, exported } = await storeIn(place));
    // The verbs' locks stay, whatever comes of the verb.
    for (const name of ['new', 'template@new']) await writeFile(join(store.root, '.locks', name), '');
  });

  const verbs: [string, () => Verb | Promise<Verb>][] = [
    ['create', () => ({ args: ['create', 'new', '--full', '--template', 't'], undo: ['rm', 'new'] })],
    ['create with a larger size', () => ({ args: ['create', 'new', '--full', '--template', 't', '--size', '2G'], undo: ['rm', 'new'] })],
    [
      'template import of a tar',
      async () => ({ args: ['template', 'import', '--size', '128M', 'new', await busyboxTar()], undo: ['template', 'rm', 'new'] }),
    ],
    ['template import of an image', () => ({ args: ['template', 'import', 'new', exported], undo: ['template', 'rm', 'new'] })],
    ['template create', () => ({ args: ['template', 'create', 'new', '--from', 'base'], undo: ['template', 'rm', 'new'] })],
    ['import', () => ({ args: ['import', exported, 'new'], undo: ['rm', 'new'] })],
  ];

  it.each(verbs)('%s ends with 14 and leaves nothing', async (_, verb) => {
    expect(await expectAllOrNothing(place, store, await verb())).toBeGreaterThanOrEqual(3);
    for (const name of readdirSync(join(store.root, 'containers'))) await shell('e2fsck', '-fn', join(store.root, 'containers', name));
  });

  it.each(['128M', '2G'])('create that links, of %s, ends with 14 and leaves nothing, where there is next to no room', async (size) => {
    const verb = { args: ['create', 'new', '--linked', '--template', 't', '--size', size], undo: ['rm', 'new'] };
    expect(await expectAllOrNothing(place, store, verb)).toBeGreaterThanOrEqual(1);
  });

  it('export to a file there ends with 14 and leaves nothing, also with --force', async () => {
    const { store: elsewhere } = await storeIn(await temporaryDirectory());
    const path = join(place, 'export.img');
    for (const room of rooms) {
      await withRoom(place, room, async () => {
        const free = await freeBytes(place);
        const result = await elsewhere.loopbox(['export', 'base', path]);
        if (result.code === 0) return expect(await shell('e2fsck', '-fn', path)).toContain('files');
        expect([room, result.code, existsSync(path)]).toEqual([room, 14, false]);
        await expect.poll(() => freeBytes(place)).toBeGreaterThanOrEqual(free);
      });
      await rm(path, { force: true });
    }
    await writeFile(path, 'mine');
    await withRoom(place, 0, async () => {
      expect(await elsewhere.loopbox(['export', '--force', 'base', path])).toMatchObject({ code: 14 });
      expect(await shell('cat', path)).toBe('mine');
      expect(readdirSync(place).filter((name) => name.startsWith('.tmp'))).toEqual([]);
    });
    await rm(path);
  });

  it('export to a standard output that is full ends with 14', async () => {
    const { environment } = store;
    for (const verb of ['export base -', 'ls', 'inspect base', 'df']) {
      expect(await execute('sh', ['-c', `${program} ${verb} > /dev/full`], { env: environment })).toMatchObject({
        code: 14,
        stderr: expect.stringMatching(/^loopbox: Cannot write to standard output: no space left on device/),
      });
    }
  });

  it('what needs no room goes on: ls, df, stop, rm', async () => {
    await store.done('create', 'going', '--template', 't', '--', 'sleep', '1000');
    await store.done('start', 'going');
    await withRoom(place, 0, async () => {
      for (const args of [['ls'], ['df'], ['stop', '-t', '0', 'going'], ['rm', 'going']]) await store.done(...args);
    });
  });
});

describe('on a full XFS', () => {
  it('create, import and template import end with 14 and leave nothing', async () => {
    const place = await xfsDirectory(320 * MiB);
    const { store, exported } = await storeIn(place);
    for (const name of ['new', 'template@new']) await writeFile(join(store.root, '.locks', name), '');
    // It shares the template's blocks and needs next to no room.
    await expectAllOrNothing(place, store, { args: ['create', 'new', '--template', 't'], undo: ['rm', 'new'] });
    const imports: Verb[] = [
      { args: ['import', exported, 'new'], undo: ['rm', 'new'] },
      { args: ['template', 'import', '--size', '128M', 'new', await busyboxTar()], undo: ['template', 'rm', 'new'] },
    ];
    for (const verb of imports) expect(await expectAllOrNothing(place, store, verb)).toBeGreaterThanOrEqual(3);
  });
});

describe('where the image is full', () => {
  it('template import ends with 14, says what to do, and leaves nothing', async () => {
    const store = await TestStore.create();
    const tree = await temporaryDirectory();
    await shell('sh', '-c', `head -c 140000000 /dev/urandom > ${tree}/noise`);
    const archive = join(await temporaryDirectory(), 'large.tar');
    await shell('tar', '-C', tree, '-cf', archive, '.');
    expect(await store.loopbox(['template', 'import', '--size', '128M', 'new', archive])).toMatchObject({
      code: 14,
      stderr: expect.stringMatching(/^loopbox: Cannot extract "noise": no space left on device.*\nhint: choose a larger --size\n$/),
    });
    expect(readdirSync(join(store.root, 'templates'))).toEqual([]);
    await store.done('template', 'import', '--size', '256M', 'new', archive);
  });
});
