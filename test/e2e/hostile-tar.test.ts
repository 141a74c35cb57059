import { existsSync, readdirSync } from 'node:fs';
import { mkdir, symlink, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { KiB, MiB } from '../../src/units';
import { execute, program, shell, TestStore, temporaryDirectory } from '../fixtures';
import { describeImage, describeTree, type TreeEntry, unpackInChroot } from '../trees';
import { entry, pax, rawHeader, tar } from '../unit/image/tar-builder';

let store: TestStore;
let directory: string;
/** A directory on the host that the archives try to reach. */
let canary: string;
let canaryBefore: Map<string, TreeEntry>;
let count = 0;

beforeAll(async () => {
  store = await TestStore.create();
  directory = await temporaryDirectory();
  canary = join(directory, 'canary');
  await mkdir(join(canary, 'sub'), { recursive: true });
  await writeFile(join(canary, 'secret'), 'secret\n');
  await writeFile(join(canary, 'sub/file'), 'file\n');
  await symlink('sub', join(canary, 'link'));
  canaryBefore = await describeTree(canary);
});

const directoryEntry = (name: string, fields = {}) => entry({ name, type: '5', mode: '0000755', ...fields });
const link = (name: string, linkname: string) => entry({ name, type: '2', mode: '0000777', linkname });
const hardLink = (name: string, linkname: string) => entry({ name, type: '1', linkname });
const device = (name: string, type: '3' | '4', major: number, minor: number) =>
  entry({ name, type, devmajor: major.toString(8).padStart(7, '0'), devminor: minor.toString(8).padStart(7, '0') });
const up = '../../../../../../../..';

async function archiveOf(parts: Buffer[]): Promise<string> {
  const path = join(directory, `${++count}.tar`);
  await writeFile(path, tar(...parts));
  return path;
}

/** Imports the archive; whatever comes of it, the host is as before. */
async function importArchive(archive: string) {
  const name = `t${count}`;
  const result = await store.loopbox(['template', 'import', '--size', '128M', name, archive]);
  expect(await describeTree(canary)).toEqual(canaryBefore);
  return { ...result, image: join(store.root, 'templates', `${name}.img`) };
}

/** GNU tar sets a directory's time when it leaves it, and so loses it where it comes back by another way. Ours are set at the end. */
function withoutDirectoryTimes(tree: Map<string, TreeEntry>): Map<string, TreeEntry> {
  return new Map([...tree].map(([path, what]) => [path, what.type === 'directory' ? { ...what, mtimeNs: '' } : what]));
}

/** The archive is taken, and is in the image what GNU tar makes of it in a chroot. */
async function expectAsGnuTar(...parts: Buffer[]): Promise<Map<string, TreeEntry>> {
  const archive = await archiveOf(parts);
  const { code, stderr, image } = await importArchive(archive);
  expect([code, stderr]).toEqual([0, '']);
  await shell('e2fsck', '-fn', image);
  const root = join(directory, `root-${count}`);
  await mkdir(root);
  expect(await unpackInChroot(archive, root)).toBe(true);
  const tree = await describeImage(image);
  expect(withoutDirectoryTimes(tree)).toEqual(withoutDirectoryTimes(await describeTree(root)));
  return tree;
}

/** The import ends with the code, says all the words, and leaves no template. */
async function expectRefused(archive: string | Buffer[], code: number, ...words: string[]): Promise<void> {
  const result = await importArchive(typeof archive === 'string' ? archive : await archiveOf(archive));
  expect(result.stderr.length).toBeLessThan(600);
  for (const word of words) expect(result.stderr).toContain(word);
  expect(result.code).toBe(code);
  expect(existsSync(result.image)).toBe(false);
  expect(readdirSync(join(store.root, 'templates')).filter((name) => !/^t\d+\.img$/.test(name))).toEqual([]);
}

describe('what GNU tar makes in a chroot, an import makes in the image, and nothing on the host:', () => {
  it('absolute names', async () => {
    const tree = await expectAsGnuTar(entry({ name: `${canary}/secret` }, 'evil'), entry({ name: '//etc//passwd' }, 'evil'));
    expect(tree.get('etc/passwd')?.type).toBe('file');
  });

  it.each([
    ['to /', () => [link('l', '/'), entry({ name: `l${canary}/secret` }, 'evil')]],
    ['to ../../..', () => [link('l', up), entry({ name: `l${canary}/secret` }, 'evil')]],
    [
      'to a directory of the host that the archive has too',
      () => [directoryEntry(`${canary}/`), link('l', canary), entry({ name: 'l/secret' }, 'evil')],
    ],
    [
      'to a link to /',
      () => [link('a', 'b'), link('b', '/'), entry({ name: `a${canary}/sub/new` }, 'evil'), entry({ name: `a${canary}/sub/file` }, 'evil')],
    ],
    [
      'that is the root’s own "."',
      () => [link('l', '.'), entry({ name: 'l/l2' }, 'x'), link('l/m', '..'), entry({ name: 'l/m/m/m/deep/file' }, 'x')],
    ],
  ])('entries through a symbolic link %s', async (_, parts) => {
    await expectAsGnuTar(...parts());
  });

  it('symbolic links with any target, as they are', async () => {
    const tree = await expectAsGnuTar(
      link('a', `${up}${canary}/secret`),
      link('b', canary),
      link('c', 'x'.repeat(100)),
      link('loop', 'loop'),
    );
    expect(tree.get('a')?.target).toBe(`${up}${canary}/secret`);
  });

  it('a symbolic link to a file replaced by a file', async () => {
    await expectAsGnuTar(link('l', `${canary}/secret`), entry({ name: 'l' }, 'evil'));
    await expectAsGnuTar(entry({ name: 'f' }, 'good'), link('l', 'f'), entry({ name: 'l' }, 'x'.repeat(3 * MiB)));
  });

  it('a symbolic link replaced by a directory, and the other way round', async () => {
    await expectAsGnuTar(directoryEntry('real/'), link('l', 'real'), directoryEntry('l/'), entry({ name: 'l/file' }, 'x'));
    await expectAsGnuTar(directoryEntry('real/'), directoryEntry('d/'), link('d', 'real'), entry({ name: 'd/file' }, 'x'));
  });

  it('hard links: to files, to links, to nodes, through links, to themselves, over others', async () => {
    const tree = await expectAsGnuTar(
      entry({ name: 'd/f' }, 'x'),
      link('d/l', canary),
      device('d/n', '3', 1, 3),
      hardLink('f', 'd/f'),
      hardLink('/l', '/d/l'),
      hardLink('n', './d//n'),
      link('through', '/d'),
      hardLink('g', 'through/f'),
      hardLink('f', 'f'),
      entry({ name: 'over' }, 'y'),
      hardLink('over', 'd/f'),
    );
    expect(tree.get('over')?.linked).toBe(tree.get('f')?.linked);
  });

  it('a file that is hard linked, replaced under one name', async () => {
    const tree = await expectAsGnuTar(entry({ name: 'a' }, 'old'), hardLink('b', 'a'), entry({ name: 'a' }, 'new'));
    expect(tree.get('a')?.sha256).not.toBe(tree.get('b')?.sha256);
  });

  it('device nodes and fifos, which a later file of the same name does not write into', async () => {
    const tree = await expectAsGnuTar(
      device('zero', '3', 1, 5),
      device('disk', '4', 254, 0),
      entry({ name: 'pipe', type: '6' }),
      device('large', '4', 0xfff, 0xffff),
      device('taken', '4', 254, 0),
      entry({ name: 'taken' }, Buffer.alloc(3 * MiB, 'x')),
      entry({ name: 'taken-pipe', type: '6' }),
      entry({ name: 'taken-pipe' }, 'x'),
    );
    expect([tree.get('disk')?.device, tree.get('taken')?.type]).toEqual(['254:0', 'file']);
  });

  it('set-id and sticky bits, owners and modes', async () => {
    const tree = await expectAsGnuTar(
      entry({ name: 'su', mode: '0006755', uid: '0001750', gid: '0000062' }, 'x'),
      entry({ name: 'none', mode: '0000000', uid: '7777777' }),
      directoryEntry('tmp/', { mode: '0001777' }),
      directoryEntry('group/', { mode: '0002775', gid: '0000062' }),
      entry({ name: 'group/file' }),
      directoryEntry('./', { mode: '0000700', uid: '0000014' }),
    );
    expect(tree.get('su')).toMatchObject({ mode: '0o6755', owner: '1000:50' });
    expect(tree.get('.')).toMatchObject({ mode: '0o700', owner: '12:0' });
  });

  it('names with newlines, escapes, quotes and spaces', async () => {
    const names = ['new\nline', '\x1b[31mred', ' lead', 'trail ', "it's", '"q"', 'back\\slash', '*', '-rf', '...', 'ä€😀', '\x01\x7f'];
    const tree = await expectAsGnuTar(...names.map((name) => entry({ name }, name)), link('l', 'new\nline'));
    expect(tree.has('new\nline')).toBe(true);
  });

  it('names of 255 bytes, and paths of 4000', async () => {
    const path = `${'d'.repeat(249)}/`.repeat(15) + 'f'.repeat(250);
    expect(path).toHaveLength(4000);
    await expectAsGnuTar(pax({ path: 'n'.repeat(255) }), entry({ name: 'n' }, 'x'), pax({ path }), entry({ name: 'p' }, 'y'));
  });

  it('entries twice, also of other types: the last counts', async () => {
    await expectAsGnuTar(
      entry({ name: 'f', mode: '0000600' }, 'first, and longer'),
      entry({ name: 'f', mode: '0000644' }, 'second'),
      directoryEntry('d/', { mode: '0000700' }),
      entry({ name: 'd/f' }),
      directoryEntry('d/', { mode: '0000755', uid: '0000007' }),
      entry({ name: 'x' }, 'file'),
      directoryEntry('x/'),
      directoryEntry('y/'),
      entry({ name: 'y' }, 'file'),
      link('z', 'x'),
      entry({ name: 'z', type: '6' }),
    );
  });

  it('directories after what is in them, and ones that no entry makes', async () => {
    const tree = await expectAsGnuTar(
      entry({ name: 'a/b/c/f' }, 'x'),
      directoryEntry('a/b/', { mode: '0000500' }),
      entry({ name: 'a/b/late' }),
    );
    expect(tree.get('a/b')).toMatchObject({ mode: '0o500', mtimeNs: '1694498816000000000' });
  });

  it('"lost+found" of its own', async () => {
    await expectAsGnuTar(entry({ name: 'lost+found' }, 'x'));
    await expectAsGnuTar(link('lost+found', canary));
  });

  it('attributes that are text, on files, directories and links', async () => {
    const tree = await expectAsGnuTar(
      pax({ 'SCHILY.xattr.user.a': 'ä\n=1', 'SCHILY.xattr.trusted.b': '', 'SCHILY.xattr.user.large': 'x'.repeat(2 * KiB) }),
      entry({ name: 'f' }),
      pax({ 'SCHILY.xattr.trusted.overlay.opaque': 'y' }),
      directoryEntry('d/'),
      pax({ 'SCHILY.xattr.trusted.l': 'z' }),
      link('l', canary),
    );
    expect(tree.get('l')?.attributes).toEqual({ 'trusted.l': '7a' });
  });
});

describe('an archive that leads out of the image or contradicts itself is refused with 13, by the entry’s name:', () => {
  it.each<[string, () => Buffer[], ...string[]]>([
    ['".." in a name', () => [entry({ name: `${up}${canary}/secret` }, 'evil')], '"..'],
    ['".." in the middle of a name', () => [directoryEntry('a/'), entry({ name: 'a/../b' }, 'x')], '"a/../b"'],
    ['".." in a hard link', () => [hardLink('h', `${up}${canary}/secret`)], '"h"'],
    ['an absolute hard link', () => [hardLink('h', `${canary}/secret`)], '"h"', 'ENOENT'],
    ['a hard link through a symbolic one', () => [link('l', canary), hardLink('h', 'l/secret')], '"h"'],
    ['a hard link through one to /', () => [link('l', '/'), hardLink('h', `l${canary}/secret`)], '"h"'],
    ['a hard link to a directory', () => [directoryEntry('d/'), hardLink('h', 'd')], '"h"'],
    ['a hard link to what comes later', () => [hardLink('h', 'f'), entry({ name: 'f' })], '"h"'],
    ['a symbolic link to a directory that only the host has', () => [link('l', canary), entry({ name: 'l/secret' }, 'evil')], '"l/secret"'],
    ['a directory below such a link', () => [link('l', canary), directoryEntry('l/new/')], '"l/new"'],
    [
      'an empty directory that becomes such a link',
      () => [directoryEntry('d/'), link('d', canary), entry({ name: 'd/secret' }, 'evil')],
      '"d/secret"',
    ],
    ['a directory that is not empty and becomes a file', () => [entry({ name: 'd/f' }), entry({ name: 'd' })], '"d"', 'ENOTEMPTY'],
    ['a directory that is not empty and becomes a link', () => [entry({ name: 'd/f' }), link('d', canary)], '"d"', 'ENOTEMPTY'],
    ['a file as a parent', () => [entry({ name: 'f' }, 'x'), entry({ name: 'f/below' }, 'y')], '"f/below"', 'ENOTDIR'],
    ['a fifo as a parent', () => [entry({ name: 'p', type: '6' }), entry({ name: 'p/below' })], '"p/below"'],
    ['a loop of links as a parent', () => [link('a', 'b'), link('b', 'a'), entry({ name: 'a/f' })], '"a/f"', 'ELOOP'],
    ['a root that is a link', () => [link('./', '/')], '"./"'],
    ['the last entry cut short', () => [entry({ name: 'good' }), rawHeader({ name: 'bad', size: 8 * 1024 ** 3 - 1 })], 'cut short'],
  ])('%s', async (_, parts, ...words) => {
    await expectRefused([entry({ name: 'before' }, 'x'), ...parts()], 13, ...words);
  });
});

describe('an entry that can’t be kept whole ends the import with 15, by its name:', () => {
  it.each<[string, () => Buffer[], ...string[]]>([
    ['an unknown type', () => [entry({ name: 'bad', type: 'Q' })], 'whole'],
    ['a part of a multi-volume archive', () => [entry({ name: 'bad', type: 'M' })], 'whole'],
    ['an ACL', () => [pax({ 'SCHILY.acl.access': 'user::rw-\nuser:1000:rwx\n' }), entry({ name: 'bad' })], 'access control list'],
    ['a name that is not UTF-8', () => [entry({ name: Buffer.from('bad\xff', 'latin1') })], 'not UTF-8'],
    ['a target that is not UTF-8', () => [pax({ linkpath: Buffer.from('\xff', 'latin1') }), link('bad', 'x')], 'not UTF-8'],
    ['a name of 256 bytes', () => [pax({ path: `bad${'x'.repeat(253)}` }), entry({ name: 'x' })], 'whole', 'ENAMETOOLONG'],
    ['a path of 100,000 bytes', () => [pax({ path: `bad/${'long/'.repeat(20_000)}` }), entry({ name: 'x' })], 'whole', 'ENAMETOOLONG'],
    ['attributes beyond a block', () => [pax({ 'SCHILY.xattr.user.a': 'x'.repeat(5000) }), entry({ name: 'bad' })], 'whole', 'setxattr'],
    ['a user attribute on a link', () => [pax({ 'SCHILY.xattr.user.a': 'x' }), link('bad', 'x')], 'whole', 'setxattr'],
    ['an attribute that ext4 does not know', () => [pax({ 'SCHILY.xattr.alien.a': 'x' }), entry({ name: 'bad' })], 'whole', 'setxattr'],
    ['a capability that is none', () => [pax({ 'SCHILY.xattr.security.capability': 'x' }), entry({ name: 'bad' })], 'whole', 'setxattr'],
  ])('%s', async (_, parts, ...words) => {
    await expectRefused([entry({ name: 'before' }, 'x'), ...parts(), entry({ name: 'after' })], 15, '"bad', ...words);
  });

  it.each([
    ['a sparse file (GNU)', ['--format=gnu', '-S'], 'sparse'],
    ['a sparse file (PAX 1.0)', ['--format=pax', '-S', '--sparse-version=1.0'], 'sparse'],
    ['a sparse file (PAX 0.1)', ['--format=pax', '-S', '--sparse-version=0.1'], 'sparse'],
    ['a sparse file (PAX 0.0)', ['--format=pax', '-S', '--sparse-version=0.0'], 'sparse'],
    ['a capability of other bytes than text', ['--format=pax', '--xattrs', '--xattrs-include=*'], '"security.capability" is not text'],
  ])('%s of GNU tar', async (_, options, words) => {
    const root = await temporaryDirectory();
    await writeFile(join(root, 'bad'), 'data');
    await truncate(join(root, 'bad'), 10 * MiB);
    await shell('setcap', 'cap_setuid+ep', join(root, 'bad'));
    const archive = join(directory, `${++count}.tar`);
    await shell('tar', '-C', root, ...options, '-cf', archive, '.');
    await expectRefused(archive, 15, 'bad"', words);
  });

  it('shows names on a terminal without obeying them', async () => {
    const archive = await archiveOf([entry({ name: '\x1b]0;evil\x07\n', type: 'Q' })]);
    const { stderr } = await execute('script', ['-qec', `${program} template import x ${archive}`, '/dev/null'], {
      env: store.environment,
    }).then(({ stdout, stderr }) => ({ stderr: stdout + stderr }));
    expect(stderr).toContain('entry "\\x1b]0;evil\\x07\\x0a" can\'t be kept whole');
    expect(stderr).not.toContain('\x1b]');
  });
});
