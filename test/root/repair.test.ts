import { mkdir, open, stat, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { findProblems } from '../../src/image/check-filesystem';
import { listFiles } from '../../src/image/list-files';
import { type Repair, repairFileSystem } from '../../src/image/repair-filesystem';
import { MiB } from '../../src/units';
import { shell, temporaryDirectory } from '../fixtures';

let directory: string;
let sound: string;
let count = 0;

beforeAll(async () => {
  directory = await temporaryDirectory();
  const tree = join(directory, 'tree');
  await mkdir(join(tree, 'a/b'), { recursive: true });
  await mkdir(join(tree, 'c'));
  await writeFile(join(tree, 'a/one'), 'one');
  await writeFile(join(tree, 'a/b/two'), 'two');
  await writeFile(join(tree, 'c/new\nline'), 'x');
  await writeFile(join(tree, 'c/big'), Buffer.alloc(MiB, 7));
  sound = join(directory, 'sound.img');
  await writeFile(sound, '');
  await truncate(sound, 64 * MiB);
  await shell('mke2fs', '-q', '-F', '-t', 'ext4', '-d', tree, sound);
});

/** A copy of the sound file system with harm done to it. */
async function harmed(...requests: string[]): Promise<string> {
  const path = join(directory, `${++count}.img`);
  await shell('cp', '--sparse=always', sound, path);
  for (const request of requests) await shell('debugfs', '-w', '-R', request, path);
  return path;
}

async function repaired(path: string): Promise<Repair> {
  await using file = await open(path, 'r+');
  const repair = await repairFileSystem(file.fd, path, directory);
  expect(await findProblems(file.fd)).toEqual([]);
  return repair;
}

describe('listFiles', () => {
  it('knows every name of a file system, whatever is in it', async () => {
    await using file = await open(sound);
    const files = await listFiles(file.fd, directory);
    expect(files.map(({ path }) => path).sort()).toEqual(
      ['/a', '/a/b', '/a/b/two', '/a/one', '/c', '/c/big', '/c/new\nline', '/lost+found'].sort(),
    );
    expect(files.find(({ path }) => path === '/c/big')).toMatchObject({ sizeBytes: MiB, mode: 0o100644 });
  });

  it('reads what can be read of a damaged one, and leaves it alone', async () => {
    const path = await harmed('clri /c', 'link /a /a/b/loop');
    const { mtimeNs } = await stat(path, { bigint: true });
    await using file = await open(path);
    const paths = (await listFiles(file.fd, directory)).map((each) => each.path);
    expect(paths).toContain('/a/b/two');
    expect(paths).toContain('/a/b/loop');
    expect((await stat(path, { bigint: true })).mtimeNs).toBe(mtimeNs);
  });
});

describe('repairFileSystem', () => {
  it('does nothing to a file system that is clean', async () => {
    const path = await harmed();
    const { mtimeNs } = await stat(path, { bigint: true });
    expect(await repaired(path)).toEqual({ repaired: [], dropped: [], lost: [] });
    expect((await stat(path, { bigint: true })).mtimeNs).toBe(mtimeNs);
  });

  it('puts counters and bitmaps right, and says that nothing was lost', async () => {
    const repair = await repaired(await harmed('ssv free_blocks_count 17', 'sif /a/one links_count 3', 'freeb 8500'));
    expect(repair.repaired.length).toBeGreaterThan(1);
    expect(repair).toMatchObject({ dropped: [], lost: [] });
  });

  it('names a file whose inode was cleared, and what went to lost+found with its directory', async () => {
    const gone = await repaired(await harmed('clri /a/one'));
    expect(gone.lost).toEqual([{ path: '/a/one', what: 'gone' }]);
    expect(gone.dropped.join('\n')).toContain("Entry 'one'");

    const { lost } = await repaired(await harmed('clri /a'));
    expect(lost).toContainEqual({ path: '/a', what: 'gone' });
    expect(lost.map(({ what }) => what)).not.toContain('changed');
    // Of what was in it e2fsck found the directory and the file; their names are known to nobody any more.
    expect(lost.filter(({ what }) => what === 'found').length).toBe(2);
  });

  it('names a file that became shorter', async () => {
    const { lost, repaired: words } = await repaired(await harmed('sif /c/big block[2] 0', 'sif /c/big size 4096'));
    expect(words.length).toBeGreaterThan(0);
    expect(lost).toEqual([{ path: '/c/big', what: 'changed' }]);
  });

  it('names a file without a name, and a journal that was lost', async () => {
    const orphan = await repaired(await harmed('unlink /c/big'));
    expect(orphan.lost).toEqual([{ path: expect.stringMatching(/^\/lost\+found\/#\d+$/), what: 'found' }]);
    expect(orphan.dropped.length).toBeGreaterThan(0);
    const journal = await repaired(await harmed('clri <8>'));
    expect(journal.dropped.join('\n')).toMatch(/journal/i);
    expect(journal.lost).toEqual([]);
  });
});
