import { existsSync, readdirSync } from 'node:fs';
import { rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { KiB, MiB } from '../../src/units';
import { assembled, changeView, contentOfState, manifestOf } from '../chain-view';
import { chainedContainer } from '../chained-container';
import { seededRandom, shell, smallFileSystem, soakCount, TestStore, temporaryDirectory } from '../fixtures';
import { overwrite } from '../image-workshop';
import { checksum } from '../image-view';

interface Report {
  name: string;
  sound: boolean;
  files: { name: string; path: string; kind: string | null; problems: string[] }[];
  fileSystem: string[] | null;
  repair: { repaired: string[]; dropped: string[]; lost: { path: string; what: string; to?: string }[]; kept: string | null } | null;
}

/** What `check` says, with its exit code. */
async function check(store: TestStore, ...args: string[]): Promise<Report & { code: number }> {
  const { code, stdout, stderr } = await store.loopbox(['check', ...args, '--format', 'json']);
  if (code !== 0 && code !== 13) throw new Error(stderr);
  return { ...(JSON.parse(stdout) as Report), code };
}

/** What it says of its files, by their names. */
function problemsOf({ files }: Report): Record<string, string[]> {
  return Object.fromEntries(files.map(({ name, problems }) => [name, problems]));
}

async function imageContainer(...flags: string[]): Promise<TestStore> {
  const store = await TestStore.create();
  await store.importBusybox('busybox', '--size', '128M');
  await store.createBusybox('web', '--full', ...flags);
  return store;
}

const debugfs =
  (...requests: string[]) =>
  async (path: string) => {
    for (const request of requests) await shell('debugfs', '-w', '-R', request, path);
  };

function filesOf(store: TestStore): string[] {
  const directory = join(store.root, 'containers');
  return readdirSync(directory).map((name) => join(directory, name));
}

describe('check says that all is well, and changes nothing,', () => {
  it('of an image, of a FILE, and of a template', async () => {
    const store = await imageContainer();
    const files = [store.imageOf('web'), join(store.root, 'templates/busybox.img')];
    const sums = await Promise.all(files.map(checksum));
    for (const argument of ['web', ...files]) {
      expect(await check(store, argument)).toMatchObject({ name: argument, sound: true, fileSystem: [], repair: null, code: 0 });
    }
    expect(await store.done('check', 'web')).toMatch(/^FILE +KIND +STATE\nweb\.img +image +ok\n\nfile system: clean$/);
    expect(await store.done('check', '-q', 'web')).toBe('');
    expect(await store.done('check', '--repair', 'web')).toContain('file system: clean');
    expect(await Promise.all(files.map(checksum))).toEqual(sums);
  });

  it('of a chain and its snapshots, each file by name', async () => {
    const store = await chainedContainer();
    const sums = await Promise.all(filesOf(store).map(checksum));
    const report = await check(store, 'web');
    expect(report).toMatchObject({ sound: true, fileSystem: [], code: 0 });
    expect(problemsOf(report)).toEqual({ 'web.delta': [], 'web@tue.delta': [], 'web@mon.img': [] });
    expect(problemsOf(await check(store, 'web@tue'))).toEqual({ 'web@tue.delta': [], 'web@mon.img': [] });
    await store.createBusybox('linked', '--linked');
    expect(problemsOf(await check(store, 'linked'))).toEqual({ 'linked.delta': [], 'busybox.img': [] });
    expect(await Promise.all(filesOf(store).slice(0, sums.length).map(checksum))).toHaveLength(sums.length);
    expect(
      await Promise.all(['web.delta', 'web@mon.img', 'web@tue.delta'].map((name) => checksum(join(store.root, 'containers', name)))),
    ).toEqual(sums);
  });

  it('where the journal is to be replayed first, which it is in a copy', async () => {
    const store = await imageContainer();
    const file = store.imageOf('web');
    await leaveInJournal(file);
    expect(await shell('dumpe2fs', '-h', file)).toContain('needs_recovery');
    const sum = await checksum(file);
    expect(await check(store, 'web')).toMatchObject({ sound: true, fileSystem: [], code: 0 });
    expect(await checksum(file)).toBe(sum);
    expect(filesOf(store)).toEqual([file]);
  });
});

/** Copies the file while it is mounted, when what was last written is only in its journal. */
async function leaveInJournal(file: string): Promise<void> {
  const target = await temporaryDirectory();
  await shell('mount', '-o', 'loop', file, target);
  try {
    await shell('sh', '-c', 'for i in 1 2 3 4 5; do mkdir "$0/d$i"; done; sync -f "$0"', target);
    await shell('cp', '--sparse=always', file, `${file}.live`);
  } finally {
    await shell('umount', target);
  }
  await shell('mv', `${file}.live`, file);
}

describe('check tells by name (13)', () => {
  it('a parent that was repaired, mounted or replaced under a delta', async () => {
    const store = await chainedContainer();
    const base = join(store.root, 'containers/web@mon.img');
    await shell('cp', '--sparse=always', base, `${base}.kept`);
    const harms: [string, (path: string) => Promise<unknown>][] = [
      ['its file system was changed after it was sealed', (path) => shell('tune2fs', '-L', 'label', path)],
      ['its file system was changed after it was sealed', (path) => shell('tune2fs', '-O', '^read-only', path)],
      ['its length was changed after it was sealed', (path) => shell('truncate', '-s', '+1M', path)],
    ];
    for (const [words, harm] of harms) {
      await harm(base);
      const report = await check(store, 'web');
      expect(problemsOf(report)['web@mon.img']).toContain(words);
      expect(report).toMatchObject({ sound: false, fileSystem: null, code: 13 });
      expect(problemsOf(report)['web.delta']).toEqual([]);
      expect((await store.loopbox(['check', '-q', 'web'])).stdout).toBe('web@mon.img\n');
      expect(await store.loopbox(['check', '--repair', 'web'])).toMatchObject({ code: 13 });
      await shell('cp', '--sparse=always', `${base}.kept`, base);
    }
    expect(await check(store, 'web')).toMatchObject({ sound: true });
  });

  it('a parent that is missing', async () => {
    const store = await chainedContainer();
    await rm(join(store.root, 'containers/web@mon.img'));
    const report = await check(store, 'web');
    expect(report).toMatchObject({ sound: false, fileSystem: null, code: 13 });
    expect(JSON.stringify(problemsOf(report))).toContain('web@mon.img');
  });

  it('a map that owns what its disk has not, or that was changed after it was sealed', async () => {
    const store = await chainedContainer();
    const [top = '', sealed = ''] = (await store.done('files', 'web')).split('\n');
    const { mapOffset, sizeBytes } = manifestOf(top) as unknown as { mapOffset: number; sizeBytes: number };
    await overwrite(top, mapOffset + sizeBytes / (32 * KiB) + 77, Buffer.from([1]));
    await overwrite(sealed, mapOffset + 5, Buffer.from([0xff]));
    const report = await check(store, 'web');
    expect(problemsOf(report)).toMatchObject({
      'web.delta': ['its map has blocks behind the end of its disk'],
      'web@tue.delta': ['its map was changed after it was sealed'],
      'web@mon.img': [],
    });
    expect(report.code).toBe(13);
  });

  it('a file whose manifest is lost, or cut short', async () => {
    const store = await chainedContainer();
    const [top = '', sealed = ''] = (await store.done('files', 'web')).split('\n');
    await overwrite(sealed, 0, Buffer.alloc(64 * KiB));
    expect(problemsOf(await check(store, 'web'))).toMatchObject({ 'web@tue.delta': [expect.stringMatching(/is not/)] });
    await shell('truncate', '-s', String(64 * MiB), top);
    expect(JSON.stringify(problemsOf(await check(store, 'web')))).toContain('cut short');
    expect(await store.loopbox(['check', 'nowhere'])).toMatchObject({ code: 10 });
  });

  it('a file system that is damaged in what all files make up together', async () => {
    const store = await chainedContainer();
    await changeView(store, 'web', debugfs('clri /root/new'));
    const report = await check(store, 'web');
    expect(report).toMatchObject({ sound: false, code: 13 });
    expect(problemsOf(report)).toEqual({ 'web.delta': [], 'web@tue.delta': [], 'web@mon.img': [] });
    expect(report.fileSystem?.join('\n')).toContain("Entry 'new'");
    expect(await check(store, 'web@tue')).toMatchObject({ sound: true, code: 0 });
    expect((await store.loopbox(['check', 'web'])).stdout).toMatch(/file system: damaged\n {2}Entry 'new'/);
  });
});

describe('on a host that is full, check', () => {
  it('and its repair say so (14), and leave all as it was', async () => {
    const place = await smallFileSystem(64 * MiB);
    const store = await chainedContainer(place);
    await changeView(store, 'web', debugfs('clri /root/new'));
    const files = filesOf(store);
    const sums = await Promise.all(files.map(checksum));
    await shell('sh', '-c', 'dd if=/dev/zero of="$0/filler" bs=64K 2>/dev/null; sync -f "$0"; true', place);
    for (const flags of [[], ['--repair']]) {
      const result = await store.loopbox(['check', 'web', ...flags]);
      expect(result).toMatchObject({ code: 14, stdout: '', stderr: expect.stringMatching(/^loopbox: Cannot check "web": no space left/) });
    }
    expect(filesOf(store)).toEqual(files);
    expect(await Promise.all(files.map(checksum))).toEqual(sums);
    await rm(join(place, 'filler'));
    expect(await check(store, 'web')).toMatchObject({ code: 13, sound: false });
  });
});

describe('check --repair', () => {
  it('puts right what costs nothing, says so, and leaves one image in the place of the other', async () => {
    const store = await imageContainer('--hostname', 'mine', '--', 'sleep', '1000');
    const file = store.imageOf('web');
    const { ino } = await stat(file);
    const [content, manifest] = [await contentOfState(store, 'web'), manifestOf(file)];
    await debugfs('sif /etc links_count 7', 'ssv free_inodes_count 5')(file);
    const report = await check(store, 'web', '--repair');
    expect(report).toMatchObject({ sound: true, code: 0, repair: { dropped: [], lost: [], kept: null } });
    expect(report.repair?.repaired.join('\n')).toContain('ref count');
    expect(filesOf(store)).toEqual([file]);
    expect((await stat(file)).ino).not.toBe(ino);
    expect(await contentOfState(store, 'web')).toBe(content);
    const { state: _, ...kept } = manifest;
    expect(manifestOf(file)).toMatchObject(kept);
    expect(manifestOf(file).state).not.toBe(manifest.state);
    await store.done('start', 'web');
    await store.done('stop', '-t', '0', 'web');
  });

  it('never calls it a success where something was lost, names it, and keeps what was there', async () => {
    const store = await imageContainer();
    const file = store.imageOf('web');
    await debugfs('clri /etc/hostname')(file);
    const before = await assembled([file]);
    const report = await check(store, 'web', '--repair');
    expect(report).toMatchObject({ sound: false, code: 13, repair: { lost: [{ path: '/etc/hostname', what: 'gone' }] } });
    const { kept } = report.repair ?? {};
    expect(kept).toMatch(/^web@before-repair-\d{8}-\d{6}$/);
    expect((await check(store, 'web')).fileSystem).toEqual([]);
    // The snapshot is the disk as it was, to the byte, but for the superblock, which says that it is sealed.
    const snapshot = await assembled([join(store.root, 'containers', `${kept}.img`)]);
    await shell('cmp', '-i', '4096', before, snapshot);
    expect(await store.json('snapshot', 'ls', 'web')).toMatchObject([{ name: kept }]);
    expect(await store.loopbox(['check', kept ?? ''])).toMatchObject({ code: 13 });
    await store.done('snapshot', 'restore', kept ?? '');
    expect((await check(store, 'web')).fileSystem?.join('\n')).toContain("Entry 'hostname'");
  });

  it('makes one image of a chain, and leaves its snapshots alone', async () => {
    const store = await chainedContainer();
    const past = await Promise.all(['web@mon', 'web@tue'].map((name) => contentOfState(store, name)));
    await changeView(store, 'web', debugfs('clri /root/new'));
    const { repair, code } = await check(store, 'web', '--repair');
    expect(code).toBe(13);
    expect(repair?.lost).toContainEqual({ path: '/root/new', what: 'gone' });
    expect(await store.done('files', 'web')).toBe(store.imageOf('web'));
    expect(existsSync(join(store.root, 'containers/web.delta'))).toBe(false);
    expect(await contentOfState(store, 'web')).toContain('/root/second');
    expect(await Promise.all(['web@mon', 'web@tue'].map((name) => contentOfState(store, name)))).toEqual(past);
    expect(await check(store, 'web')).toMatchObject({ sound: true, code: 0 });
  });

  it('is of stopped containers of the store: a FILE, a snapshot and one that runs are refused', async () => {
    const store = await imageContainer('--', 'sleep', '1000');
    await store.done('snapshot', 'create', 'web@mon');
    const file = join(await temporaryDirectory(), 'own.img');
    await store.done('export', 'web', file);
    await debugfs('clri /etc/hostname')(file);
    const sum = await checksum(file);
    expect(await store.loopbox(['check', '--repair', file])).toMatchObject({ code: 2, stderr: expect.stringContaining('loopbox import') });
    expect(await store.loopbox(['check', '--repair', 'web@mon'])).toMatchObject({ code: 2, stderr: expect.stringContaining('clone') });
    expect(await checksum(file)).toBe(sum);
    await store.done('start', 'web');
    expect(await store.loopbox(['check', '--repair', 'web'])).toMatchObject({ code: 11 });
    expect(await check(store, 'web@mon')).toMatchObject({ sound: true, code: 0 });
    await store.done('stop', '-t', '0', 'web');
  });

  it('that is killed at any moment leaves the disk as it was, or repaired, and nothing half-made', async () => {
    const random = seededRandom();
    const store = await imageContainer();
    const harmed = join(await temporaryDirectory(), 'harmed.img');
    await debugfs('clri /etc/hostname')(store.imageOf('web'));
    await shell('cp', '--sparse=always', store.imageOf('web'), harmed);
    let usualMs = 1500;
    for (let round = 0; round < soakCount(40); round++) {
      const abort = new AbortController();
      const begun = performance.now();
      const timer = round === 0 ? undefined : setTimeout(() => abort.abort(), random.below(usualMs));
      const { code } = await store.loopbox(['check', '--repair', 'web'], { signal: abort.signal });
      clearTimeout(timer);
      if (round === 0) usualMs = performance.now() - begun;
      expect([13, 137]).toContain(code);
      const { fileSystem, files } = await check(store, 'web');
      expect(files.every(({ problems }) => problems.length === 0)).toBe(true);
      const names = files.map(({ name }) => name.replace(/-\d{8}-\d{6}/, '')).sort();
      // The disk as it was is there in any case.
      if (fileSystem?.length === 0) expect(names).toEqual(['web.img', 'web@before-repair.img']);
      else expect(names).toEqual(['web.img']);
      expect(filesOf(store).length).toBe(names.length);
      for (const path of filesOf(store)) await rm(path);
      await shell('cp', '--sparse=always', harmed, store.imageOf('web'));
    }
  }, 300_000);
});
