import { constants } from 'node:fs';
import { type FileHandle, open, readFile, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { attachLoop, type LoopDevice } from '../../src/loop/attach-loop';
import { readLoop } from '../../src/loop/list-loops';
import { extract } from '../../src/mount/extract';
import { findCommand } from '../../src/mount/find-command';
import { cleanIdentity, giveNewIdentity } from '../../src/mount/identity';
import { type Mount, mountImage } from '../../src/mount/mount-image';
import { lookUpUser } from '../../src/mount/users';
import { type NativeEntry, native } from '../../src/native';
import { MiB } from '../../src/units';
import { cleanUp, execute, shell, temporaryDirectory } from '../fixtures';

const features = ['-b', '4096', '-O', 'metadata_csum_seed,^orphan_file'];

interface TestImage {
  path: string;
  loop: LoopDevice;
}

async function attachImage(mke2fsOptions = features, blockSize = 4096): Promise<TestImage> {
  const path = join(await temporaryDirectory(), 'image');
  await writeFile(path, '');
  await truncate(path, 64 * MiB);
  await shell('mke2fs', '-q', '-F', '-t', 'ext4', ...mke2fsOptions, path);
  return { path, loop: await attachFile(path, blockSize) };
}

async function attachFile(path: string, blockSize = 512): Promise<LoopDevice> {
  await using file: FileHandle = await open(path, 'r+');
  const loop = await attachLoop({
    fd: file.fd,
    name: path,
    sizeLimitBytes: 0,
    blockSize,
    readOnly: false,
    directIo: false,
    warn: () => {},
  });
  cleanUp(() => loop.close());
  return loop;
}

async function mountNew(mke2fsOptions = features): Promise<TestImage & { mount: Mount }> {
  const image = await attachImage(mke2fsOptions);
  const mount = await mountImage(image.loop.path);
  cleanUp(() => mount.close());
  return { ...image, mount };
}

function entry(type: NativeEntry['type'], path: string, more: Partial<NativeEntry> = {}): NativeEntry {
  return { path, type, mode: type === 'directory' ? 0o755 : 0o644, uid: 0, gid: 0, mtimeNs: 1_700_000_000_000_000_000n, ...more };
}

function file(path: string, text: string, more: Partial<NativeEntry> = {}): NativeEntry {
  return entry('file', path, { content: Buffer.from(text), ...more });
}

async function fill(mount: Mount, ...batches: NativeEntry[][]): Promise<void> {
  await extract(
    mount,
    (async function* () {
      yield* batches;
    })(),
  );
}

/** The image as e2fsck and a stock mount see it, after our own mount is gone. */
async function check({ mount, loop, path }: TestImage & { mount: Mount }): Promise<void> {
  await mount.close();
  await loop.close();
  expect(await execute('e2fsck', ['-fn', path])).toMatchObject({ code: 0 });
}

it('mounts in no namespace, with the right options, and unmounts with the close', async () => {
  const { mount, loop, path } = await mountNew();
  await mount.tree.writeText('/hello', 'world', 0o600);
  expect(await readFile('/proc/1/mountinfo', 'utf8')).not.toContain(loop.path);
  expect(await readFile('/proc/self/mountinfo', 'utf8')).not.toContain(loop.path);
  expect(await readFile(`/proc/fs/ext4/loop${loop.index}/options`, 'utf8')).toContain('errors=remount-ro');
  await expect(native().openInRoot(mount.fd, 'hello', constants.O_RDONLY | constants.O_DIRECTORY, 0)).rejects.toMatchObject({
    code: 'ENOTDIR',
  });

  // The mount alone keeps the device, and is the last to leave it.
  await loop.close();
  expect(readLoop(loop.index)?.diskSequence).toBe(loop.diskSequence);
  await mount.sync();
  await mount.close();
  await mount.close();
  await expect.poll(() => readLoop(loop.index)?.diskSequence).not.toBe(loop.diskSequence);
  expect(await shell('debugfs', '-R', 'cat /hello', path)).toBe('world');
});

it('refuses device nodes: the mount is nodev', async () => {
  const { mount } = await mountNew();
  await fill(mount, [entry('character', 'null', { major: 1, minor: 3, mode: 0o666 })]);
  await expect(mount.tree.readText('/null')).rejects.toMatchObject({ code: 'EACCES' });
});

it('says why it can not mount', async () => {
  const small = await attachImage(['-b', '1024'], 4096);
  await expect(mountImage(small.loop.path)).rejects.toMatchObject({
    code: 'ERR_LOOPBOX_NOT_SUPPORTED',
    message: expect.stringContaining('1024-byte blocks'),
  });
  const path = join(await temporaryDirectory(), 'nothing');
  await writeFile(path, Buffer.alloc(MiB));
  const nothing = await attachFile(path);
  await expect(mountImage(nothing.path)).rejects.toMatchObject({
    code: 'ERR_LOOPBOX_NOT_SUPPORTED',
    message: `Cannot mount "${nothing.path}": it is not an ext4 file system`,
  });
});

it('extracts entries of every type as they are', async () => {
  const image = await mountNew();
  const { tree } = image.mount;
  const capability = Buffer.from('0100000200040000000000000000000000000000', 'hex');
  await fill(
    image.mount,
    [
      entry('directory', './', { mode: 0o755 }),
      entry('directory', './dir/', { mode: 0o2750, uid: 1000, gid: 1001 }),
      file('./dir/su', 'one ', { mode: 0o4755, uid: 1000, gid: 1001 }),
    ],
    [
      file('./dir/su', 'two', {
        mode: 0o4755,
        uid: 1000,
        gid: 1001,
        append: true,
        xattrs: [{ name: 'security.capability', value: capability }],
      }),
    ],
    [
      entry('symlink', 'link', { target: '/dir/su', uid: 5 }),
      entry('hardlink', 'hard', { target: 'dir/su' }),
      entry('fifo', 'fifo'),
      entry('block', 'dev/sda', { major: 8, minor: 1000, mode: 0o660, gid: 6 }),
    ],
  );
  expect(await tree.stat('/dir')).toMatchObject({ mode: 0o42750, uid: 1000, gid: 1001, mtimeMs: 1_700_000_000_000 });
  expect(await tree.stat('/dir/su')).toMatchObject({ mode: 0o104755, uid: 1000, gid: 1001, nlink: 2, mtimeMs: 1_700_000_000_000 });
  expect(await tree.stat('/')).toMatchObject({ mtimeMs: 1_700_000_000_000 });
  expect(await tree.readText('/link')).toBe('one two');
  expect(await tree.stat('/link', { follow: false })).toMatchObject({ uid: 5, mtimeMs: 1_700_000_000_000 });
  expect((await tree.stat('/fifo'))?.isFIFO()).toBe(true);
  const device = await tree.stat('/dev/sda');
  expect(device).toMatchObject({
    mode: 0o60660,
    gid: 6,
    rdev: Number(await shell('python3', '-c', 'import os; print(os.makedev(8, 1000))')),
  });
  await expect(tree.readText('/fifo')).rejects.toMatchObject({ code: 'ERR_LOOPBOX_CORRUPT' });
  await image.mount.sync();
  const { path } = image;
  await check(image);
  expect(await shell('debugfs', '-R', 'ea_list /dir/su', path)).toContain('security.capability');
});

it('names the entry that it can not extract, and ends there', async () => {
  const { mount } = await mountNew();
  const batches = [[file('fine', ''), entry('hardlink', 'bad/link', { target: 'nowhere' }), file('never', '')]];
  await expect(fill(mount, ...batches)).rejects.toMatchObject({
    code: 'ERR_LOOPBOX_CORRUPT',
    message: 'Cannot extract "bad/link": the archive contradicts itself: no such file or directory (ENOENT, linkat)',
  });
  expect(await mount.tree.exists('never')).toBe(false);
});

it('says that the image is full', async () => {
  const { mount } = await mountNew();
  const content = Buffer.alloc(8 * MiB, 'x');
  const batches = Array.from({ length: 10 }, (_, i) => [entry('file', `file-${i}`, { content })]);
  await expect(fill(mount, ...batches)).rejects.toMatchObject({ code: 'ERR_LOOPBOX_NO_SPACE', hint: 'choose a larger --size' });
});

it('passes on the error of the archive itself, after what was under way', async () => {
  const { mount } = await mountNew();
  async function* broken(): AsyncGenerator<NativeEntry[]> {
    yield [file('a', 'x')];
    throw new Error('the archive is cut short');
  }
  await expect(extract(mount, broken())).rejects.toThrow('the archive is cut short');
  expect(await mount.tree.readText('a')).toBe('x');
});

it('never leads out of the root', async () => {
  const outside = await temporaryDirectory();
  await writeFile(join(outside, 'secret'), 'secret');
  const { mount } = await mountNew();
  const { tree } = mount;
  await fill(mount, [
    entry('symlink', 'absolute', { target: outside }),
    entry('symlink', 'up', { target: `../../../../../../..${outside}` }),
    entry('symlink', 'magic', { target: '/proc/self/cwd' }),
    entry('symlink', 'loop', { target: 'loop' }),
    entry('directory', 'etc'),
    entry('symlink', 'etc/passwd', { target: `${outside}/secret` }),
    entry('symlink', 'root', { target: '/..' }),
  ]);
  for (const path of [
    'absolute/secret',
    'up/secret',
    'magic/package.json',
    'loop/x',
    'etc/passwd',
    `root${outside}/secret`,
    `../..${outside}/secret`,
  ]) {
    expect(await tree.readText(path), path).toBeUndefined();
  }
  await expect(fill(mount, [file('absolute/new', 'x')])).rejects.toThrow();
  await expect(fill(mount, [file('up/new', 'x')])).rejects.toThrow();
  await tree.remove('absolute');
  await tree.writeText('etc/passwd', 'x', 0o644).catch(() => {});
  expect(await readFile(join(outside, 'secret'), 'utf8')).toBe('secret');
  expect(await shell('ls', outside)).toBe('secret');
  expect(await tree.readDirectory('root')).toContain('etc');
});

it('makes a text file with the mode that was asked for, and keeps that of an existing one', async () => {
  const { mount } = await mountNew();
  const umask = process.umask(0o077);
  cleanUp(() => void process.umask(umask));
  await mount.tree.writeText('/text', 'long text', 0o644);
  expect((await mount.tree.stat('/text'))?.mode).toBe(0o100644);
  await mount.tree.writeText('/text', 'short', 0o600);
  expect((await mount.tree.stat('/text'))?.mode).toBe(0o100644);
  expect(await mount.tree.readText('/text')).toBe('short');
});

it('finds users, groups and commands inside', async () => {
  const { mount } = await mountNew();
  const { tree } = mount;
  expect(await lookUpUser(tree, 'root').catch((error) => error.code)).toBe('ERR_LOOPBOX_NOT_FOUND');
  await fill(mount, [
    file('etc/passwd', 'root:x:0:0::/root:/bin/sh\nweb:x:33:33::/srv:/bin/sh\n'),
    file('etc/group', 'www:x:33:\nlogs:x:4:root,web\n'),
    file('usr/bin/tool', '#!/bin/sh\n', { mode: 0o755 }),
    file('usr/bin/data', 'x'),
    file('srv/local', 'x', { mode: 0o755 }),
    entry('symlink', 'bin', { target: 'usr/bin' }),
    entry('symlink', 'sbin/init', { target: '/lib/systemd/systemd' }),
    file('lib/systemd/systemd', 'x', { mode: 0o755 }),
  ]);
  expect(await lookUpUser(tree, 'web')).toEqual({ uid: 33, gid: 33, groups: [4], home: '/srv', name: 'web' });

  const options = { path: '/usr/local/bin:/bin', workdir: '/srv' };
  expect(await findCommand(tree, 'tool', options)).toBe('/usr/bin/tool');
  expect(await findCommand(tree, './local', options)).toBe('/srv/local');
  expect(await findCommand(tree, '/sbin/init', options)).toBe('/lib/systemd/systemd');
  for (const command of ['none', '', './none', 'usr/bin/tool', '/etc/passwd/x']) {
    await expect(findCommand(tree, command, options), command).rejects.toMatchObject({ exitCode: 127 });
  }
  for (const command of ['data', '/usr', '../etc/passwd']) {
    await expect(findCommand(tree, command, options), command).rejects.toMatchObject({ exitCode: 126 });
  }
});

it('gives a new identity', async () => {
  const image = await mountNew();
  const { mount, path } = image;
  const uuid = () => shell('blkid', '-p', '-s', 'UUID', '-o', 'value', path);
  const before = await uuid();
  await fill(mount, [file('etc/machine-id', 'old\n'), file('etc/hostname', 'a-much-longer-name\n')]);
  expect(await giveNewIdentity(mount, { hostname: 'web' })).toEqual({ hasNewUuid: true });
  expect(await mount.tree.readText('/etc/machine-id')).toBe('');
  expect(await mount.tree.readText('/etc/hostname')).toBe('web\n');
  await check(image);
  expect(await uuid()).not.toBe(before);
});

it('says where the uuid of a mounted file system can not change, and makes no /etc', async () => {
  const { mount } = await mountNew(['-b', '4096', '-O', 'metadata_csum,^metadata_csum_seed']);
  expect(await giveNewIdentity(mount, { hostname: 'web' })).toEqual({ hasNewUuid: false });
  expect(await mount.tree.exists('/etc')).toBe(false);
});

it('cleans the identity and tells what it cleaned', async () => {
  const { mount } = await mountNew();
  await fill(mount, [
    file('etc/machine-id', 'id\n'),
    entry('symlink', 'var/lib/dbus/machine-id', { target: '/etc/machine-id' }),
    file('etc/hostname', 'name\n'),
    file('etc/ssh/ssh_host_rsa_key', 'key'),
    file('etc/ssh/ssh_host_rsa_key.pub', 'key'),
    file('etc/ssh/sshd_config', ''),
    file('var/lib/systemd/random-seed', 'seed'),
  ]);
  expect(await cleanIdentity(mount)).toEqual([
    '/etc/machine-id',
    '/etc/ssh/ssh_host_rsa_key',
    '/etc/ssh/ssh_host_rsa_key.pub',
    '/var/lib/systemd/random-seed',
    '/etc/hostname',
  ]);
  expect(await mount.tree.readDirectory('/etc/ssh')).toEqual(['sshd_config']);
  expect(await cleanIdentity(mount)).toEqual([]);
  expect(await mount.tree.readDirectory('/none')).toEqual([]);
});
