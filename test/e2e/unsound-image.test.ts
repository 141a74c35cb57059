import { readFile, stat, symlink, truncate, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { KiB, MiB } from '../../src/units';
import { execute, shell, type TestStore, temporaryDirectory } from '../fixtures';
import { ImageWorkshop, manifestOf, overwrite } from '../image-workshop';
import { expectRefused } from '../refusal';
import { seededBytes, superblockBytes } from '../unit/image/golden';
import { rawSlots } from '../unit/image/raw-slots';

let images: ImageWorkshop;
let store: TestStore;

beforeAll(async () => {
  images = await ImageWorkshop.open();
  ({ store } = images);
});

const verbsOfFiles: ((path: string) => string[])[] = [
  (path) => ['import', path, 'new'],
  (path) => ['run', '-d', path, '--', 'true'],
  (path) => ['start', path],
  (path) => ['export', path, images.nextPath()],
  (path) => ['set', path, '--pids', '9'],
  (path) => ['template', 'create', 'new', '--from', path],
];

async function expectRefusedByAll(path: string, code: number, ...words: string[]): Promise<void> {
  const { mtimeNs } = await stat(path, { bigint: true });
  for (const verb of verbsOfFiles) await expectRefused(store, verb(path), code, ...words);
  expect((await stat(path, { bigint: true })).mtimeNs).toBe(mtimeNs);
}

describe('a file that is no sound ext4 image is refused', () => {
  async function noise(bytes: Uint8Array, sizeBytes = bytes.length): Promise<string> {
    const path = images.nextPath();
    await writeFile(path, bytes);
    await truncate(path, sizeBytes);
    return path;
  }

  it.each([
    ['XFS', 'an XFS file system', ['mkfs.xfs', '-q']],
    ['btrfs', 'a btrfs file system', ['mkfs.btrfs', '-q']],
    ['swap space', 'swap space', ['mkswap', '-q']],
  ])('by name, as %s (15)', async (_, name, [command = '', ...args]) => {
    const path = await noise(Buffer.alloc(0), 320 * MiB);
    await shell(command, ...args, path);
    await expectRefusedByAll(path, 15, `it is ${name}, not an ext4 image`);
    await expectRefused(store, ['template', 'import', 'new', path], 15, `it is ${name}, not a tar archive`);
  });

  it('as an external journal, or with one (15)', async () => {
    const journal = await noise(Buffer.alloc(0), 16 * MiB);
    await shell('mke2fs', '-q', '-F', '-b', '4096', '-O', 'journal_dev', journal);
    await expectRefusedByAll(journal, 15, 'it is an external journal');
    for (const request of ['ssv journal_dev 0xfe00', 'ssv mount_opts journal_path=/dev/vda']) {
      const path = await images.copyOf(images.exported);
      await shell('debugfs', '-w', '-R', request, path);
      await expectRefusedByAll(path, 15, 'its journal lies on another device');
    }
  });

  it('as no image at all (13)', async () => {
    for (const path of [await noise(seededBytes(1, MiB)), await noise(Buffer.alloc(0)), await noise(Buffer.alloc(0), 64 * MiB)]) {
      await expectRefusedByAll(path, 13, 'it is not an ext4 image');
      await expectRefused(store, ['template', 'import', 'new', path], 13, 'Cannot import');
    }
  });

  it('as cut short (13)', async () => {
    for (const path of [await images.copyOf(images.exported), await images.foreignImage(64 * KiB)]) {
      await truncate(path, 48 * MiB);
      await expectRefusedByAll(path, 13, 'it is cut short');
      await expectRefused(store, ['template', 'import', 'new', path], 13, 'it is cut short');
    }
    const larger = await images.copyOf(images.exported);
    await overwrite(larger, KiB, superblockBytes({ sizeBytes: 2 ** 44 }));
    await expectRefusedByAll(larger, 13, 'it is cut short');
    const withoutManifest = await images.copyOf(images.exported);
    await truncate(withoutManifest, 128 * MiB);
    await expectRefusedByAll(withoutManifest, 13, 'its manifest is lost', 'import --rescue');
    await store.done('import', '--rescue', withoutManifest, 'rescued');
    await store.done('rm', 'rescued');
  });

  it('as larger than any file (13)', async () => {
    for (const sizeBytes of [2 ** 53, 2 ** 62, 2 ** 63 - MiB, 2 ** 63]) {
      const path = await images.copyOf(images.exported);
      await overwrite(path, KiB, superblockBytes({ sizeBytes }));
      await expectRefusedByAll(path, 13, "its superblock's sizes make no sense");
    }
  });

  it('as having outgrown its manifest (13)', async () => {
    const path = await images.copyOf(images.exported);
    await truncate(path, 1024 * MiB);
    await shell('e2fsck', '-fp', path);
    await shell('resize2fs', path);
    await expectRefusedByAll(path, 13, 'import --rescue');
  });

  it('with a wrong checksum in the superblock (13)', async () => {
    const path = await images.copyOf(images.exported);
    await overwrite(path, 1024 + 0x78, Buffer.from('label'));
    await expectRefusedByAll(path, 13, "its superblock's checksum is wrong");
    await expectRefused(store, ['template', 'import', 'new', path], 13, "its superblock's checksum is wrong");
  });

  /** Where the first group has a thing, in blocks. */
  async function blockOf(path: string, thing: string): Promise<number> {
    return Number(new RegExp(`${thing} at (\\d+)`).exec(await shell('dumpe2fs', path))?.[1]);
  }

  it.each(['Block bitmap', 'Inode bitmap', 'Inode table'])('with a wrong checksum in the %s (13)', async (thing) => {
    for (const [path, blockSize] of [
      [await images.copyOf(images.exported), 4096],
      [await images.foreignImage(64 * KiB, '-b', '1024'), 1024],
    ] as const) {
      // The second inode is the root directory's.
      await overwrite(path, (await blockOf(path, thing)) * blockSize + (thing === 'Inode table' ? 256 : 0) + 4, seededBytes(1, 32));
      expect((await execute('e2fsck', ['-fn', path])).code).not.toBe(0);
      const stranger = await renamed(path, blockSize);
      for (const verb of [
        ['import', stranger, 'new'],
        ['run', '-d', stranger, '--', 'true'],
        ['template', 'import', 'new', stranger],
      ]) {
        await expectRefused(store, verb, 13, 'its file system is damaged');
      }
    }
  });

  /** What comes from elsewhere is checked; a copy of what the store has, is not. */
  async function renamed(path: string, blockSize: number): Promise<string> {
    if (blockSize !== 4096) return path;
    const manifest = { ...(await manifestOf(path)), container: '99999999-2222-4333-8444-555555555555' };
    await overwrite(path, 128 * MiB, rawSlots(JSON.stringify(manifest)));
    return path;
  }
});

describe('what is not a regular file is refused as', () => {
  it.each<[string, () => Promise<string>, number, string]>([
    ['a directory (15)', () => temporaryDirectory(), 15, 'not a regular file'],
    ['a fifo that nobody writes (15)', fifo, 15, 'not a regular file'],
    ['a device (15)', async () => '/dev/zero', 15, 'not a regular file'],
    ['a block device (15)', async () => '/dev/loop0', 15, 'not a regular file'],
    ['a loop of links', linkLoop, 1, 'too many symbolic links'],
    ['missing (10)', async () => join(images.directory, 'nowhere.img'), 10, 'exist|no such file'],
    ['below a file (10)', async () => join(images.exported, 'x.img'), 10, 'exist|not a directory'],
  ])('%s', async (_, make, code, words) => {
    const path = await make();
    for (const verb of [...verbsOfFiles, () => ['inspect', path], () => ['stop', path], () => ['template', 'import', 'new', path]]) {
      const result = await store.loopbox(verb(path), { timeoutMs: 60_000 });
      expect([verb(path)[0], result.code]).toEqual([verb(path)[0], code]);
      expect(result.stderr).toMatch(code === 15 ? /not a regular file|is a directory/ : new RegExp(words));
    }
  });

  it('the place of an export, with and without --force', async () => {
    for (const path of [await temporaryDirectory(), await fifo(), '/dev/null']) {
      const place = basename(path) === 'null' ? await nullDevice() : path;
      for (const force of [[], ['--force']]) {
        const before = await stat(place);
        await expectRefused(store, ['export', 'base', place, ...force], 15, 'it is not a regular file');
        expect(await stat(place)).toMatchObject({ ino: before.ino, mode: before.mode, rdev: before.rdev });
      }
    }
    const taken = images.nextPath();
    await writeFile(taken, 'mine');
    await expectRefused(store, ['export', 'base', taken], 11, 'it exists');
    expect(await readFile(taken, 'utf8')).toBe('mine');
  });

  async function nullDevice(): Promise<string> {
    const path = images.nextPath();
    await shell('mknod', path, 'c', '1', '3');
    return path;
  }

  async function fifo(): Promise<string> {
    const path = images.nextPath();
    await shell('mkfifo', path);
    return path;
  }

  async function linkLoop(): Promise<string> {
    const path = images.nextPath();
    await symlink(basename(path), path);
    return path;
  }
});
