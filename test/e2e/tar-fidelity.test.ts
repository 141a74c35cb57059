import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { busyboxTar, execute, program, shell, TestStore, temporaryDirectory } from '../fixtures';
import { describeImage, describeTree, type TreeEntry, unpack } from '../trees';

let store: TestStore;
let directory: string;

beforeAll(async () => {
  store = await TestStore.create();
  directory = await temporaryDirectory();
});

/** A tree with everything that a root file system can hold, and GNU tar can keep. */
const richTree = String.raw`
  set -eu
  mkdir -p etc empty 'deep/with space' dev run/pipes links
  seq 100000 > etc/numbers; head -c 5000000 /dev/urandom > etc/noise; truncate -s 3M etc/zeroes; : > etc/nothing
  printf x > $'new\nline'; printf y > 'ümlaut'; printf z > '-n'; printf q > 'quote"'\''\'
  long=$(printf 'd%.0s' {1..250}); path=$long
  for i in {1..14}; do path=$path/$long; done
  mkdir -p "$path"; : > "$path/$long"; chmod 0640 "$path/$long"
  ln etc/numbers links/hard; ln etc/numbers links/hard2; ln -s /etc/numbers links/absolute
  ln -s ../../../etc links/up; ln -s loop links/loop; ln -s "$(printf 'x%.0s' {1..1000})" links/long
  ln links/up links/hard-to-symlink
  mkfifo run/pipes/fifo; ln run/pipes/fifo run/pipes/hard-to-fifo
  mknod dev/null c 1 3; mknod dev/sda b 8 0; mknod dev/large c 4095 1048575; ln dev/null dev/hard-to-null
  mkdir -m 1777 tmp; mkdir -m 2775 group; mkdir -m 0000 closed; printf s > su; printf n > none
  chown 1000:50 su etc/numbers group; chown 4294967294:4294967294 none; chown -h 1234:5678 links/up; chown 7:8 run/pipes/fifo dev/sda
  chmod 6755 su; chmod 0000 none; chmod 0666 dev/null
  setfattr -n user.text -v 'ä = 1' etc/numbers; setfattr -n user.empty etc/nothing; setfattr -n trusted.overlay.opaque -v y empty
  setfattr -h -n trusted.link -v l links/up; setfattr -n user.large -v "$(printf 'v%.0s' {1..2000})" etc/noise
  printf p > ping; setcap cap_net_raw+ep ping
  touch -d '2001-02-03 04:05:06.123456789' etc/numbers; touch -d '1935-01-01 00:00:00.5' etc/nothing; touch -d '2262-01-01' etc/zeroes
  touch -h -d '2010-01-01 00:00:00.000000001' links/up; touch -d '2011-01-01 01:01:01.9' run/pipes/fifo dev/sda
  touch -d '2012-12-12 12:12:12.121212121' empty group deep .
`;

async function importAndDescribe(name: string, source: string): Promise<Map<string, TreeEntry>> {
  await store.done('template', 'import', '--size', '256M', name, source);
  return describeTemplate(name);
}

async function describeTemplate(name: string): Promise<Map<string, TreeEntry>> {
  const path = join(store.root, 'templates', `${name}.img`);
  await shell('e2fsck', '-fn', path);
  return describeImage(path);
}

describe('an imported archive is what GNU tar makes of it', () => {
  let source: string;
  let expected: Map<string, TreeEntry>;
  beforeAll(async () => {
    const tree = await temporaryDirectory();
    await shell('bash', '-c', `cd ${tree}; ${richTree}`);
    source = join(directory, 'rich.tar');
    await shell('tar', '-C', tree, '--format=pax', '--numeric-owner', '--xattrs', '--xattrs-include=*', '-cf', source, '.');
    const unpacked = await temporaryDirectory();
    await unpack(source, unpacked);
    expected = await describeTree(unpacked);
  });

  it('holds what the test is about', async () => {
    const all = [...expected.values()];
    expect(new Set(all.map(({ type }) => type))).toEqual(new Set(['file', 'directory', 'symlink', 'fifo', 'character', 'block']));
    expect(expected.get('links/hard')?.linked).toBe(expected.get('etc/numbers')?.linked);
    expect(expected.get('su')).toMatchObject({ mode: '0o6755', owner: '1000:50' });
    expect(expected.get('etc/numbers')).toMatchObject({
      mtimeNs: '981173106123456789',
      attributes: { 'user.text': Buffer.from('ä = 1').toString('hex') },
    });
    expect(expected.get('ping')?.attributes).toHaveProperty(['security.capability']);
    expect(expected.get('links/up')?.attributes).toEqual({ 'trusted.link': '6c' });
    expect(Math.max(...[...expected.keys()].map((path) => path.length))).toBeGreaterThan(3900);
  });

  it.each(['tar', 'gz', 'xz', 'zst'])('from a .%s', async (suffix) => {
    const packed = { tar: 'cat', gz: 'gzip -1', xz: 'xz -0', zst: 'zstd -1' }[suffix];
    const path = join(directory, `packed.${suffix}`);
    await shell('sh', '-c', `${packed} < ${source} > ${path}`);
    expect(await importAndDescribe(`rich-${suffix}`, path)).toEqual(expected);
  });

  it('from standard input: a file, a pipe, compressed', async () => {
    for (const [index, command] of [`< ${source}`, `< ${source} cat |`, `zstd -1 < ${source} |`].entries()) {
      const line = command.endsWith('|')
        ? `${command} ${program} template import --size 256M in-${index} -`
        : `${program} template import --size 256M in-${index} - ${command}`;
      expect(await execute('sh', ['-c', line], { env: store.environment })).toMatchObject({ code: 0, stderr: '' });
      expect(await describeTemplate(`in-${index}`)).toEqual(expected);
    }
  });

  it('of a whole root file system, in every format that GNU tar writes', async () => {
    const tree = await temporaryDirectory();
    await shell('tar', '-C', tree, '-xpf', await busyboxTar());
    for (const format of ['gnu', 'oldgnu', 'pax', 'ustar', 'v7']) {
      const path = join(directory, `${format}.tar`);
      await shell('tar', '-C', tree, `--format=${format}`, '-cf', path, '.');
      const unpacked = await temporaryDirectory();
      await unpack(path, unpacked);
      expect(await importAndDescribe(`format-${format}`, path)).toEqual(await describeTree(unpacked));
    }
  });
});

describe('a container from an imported archive', () => {
  it('has the same files, but for what makes its identity', async () => {
    await store.importBusybox();
    await store.createBusybox('c', '--full');
    const [template, container] = [await describeTemplate('busybox'), await describeImage(store.imageOf('c'))];
    const changed = [...container]
      .filter(([path, what]) => JSON.stringify(what) !== JSON.stringify(template.get(path)))
      .map(([path]) => path);
    expect(changed.sort()).toEqual(['etc/hostname', 'etc/machine-id']);
    expect(new Set(container.keys())).toEqual(new Set(template.keys()));
  });
});
