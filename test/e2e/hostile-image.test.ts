import { existsSync, readdirSync, readlinkSync } from 'node:fs';
import { mkdir, open, readFile, rm, stat, symlink, truncate, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { decodeSlots, slotsLength } from '../../src/image/manifest-slots';
import { KiB, MiB } from '../../src/units';
import { busyboxTar, execute, shell, TestStore, temporaryDirectory } from '../fixtures';
import { heldByKernel } from '../remains';
import { describeTree, mounted } from '../trees';
import { sampleManifest, seededBytes } from '../unit/image/golden';
import { rawSlots } from '../unit/image/raw-slots';

let store: TestStore;
let directory: string;
/** A file that `export` wrote: 128 MiB, busybox. */
let exported: string;
/** The same files, as a directory. */
let rootfs: string;
let count = 0;

beforeAll(async () => {
  store = await TestStore.create();
  directory = await temporaryDirectory();
  exported = join(directory, 'exported.img');
  rootfs = join(directory, 'rootfs');
  await store.done('template', 'import', '--size', '128M', 't', await busyboxTar());
  await store.done('create', 'base', '--template', 't', '--', 'sh', '-c', 'echo it runs');
  await store.done('export', 'base', exported);
  await mkdir(rootfs);
  await shell('tar', '-C', rootfs, '-xpf', await busyboxTar());
});

const nextPath = () => join(directory, `${++count}.img`);

async function copyOf(path: string): Promise<string> {
  const copy = nextPath();
  await shell('cp', '--sparse=always', path, copy);
  return copy;
}

/** A file system of somebody else, with a root file system in it. */
async function foreignImage(sizeKiB: number, ...args: string[]): Promise<string> {
  const path = nextPath();
  await shell('mke2fs', '-q', '-F', '-t', 'ext4', ...args, '-d', rootfs, path, `${sizeKiB}k`);
  return path;
}

async function overwrite(path: string, position: number, bytes: Uint8Array): Promise<void> {
  await using file = await open(path, 'r+');
  await file.write(bytes, 0, bytes.length, position);
}

/** A container's file with other bytes where its manifest is. */
async function withSlots(slots: Buffer): Promise<string> {
  const path = await copyOf(exported);
  await overwrite(path, (await stat(path)).size - slotsLength, slots);
  return path;
}

async function manifestOf(path: string): Promise<Record<string, unknown> & { config: Record<string, unknown> }> {
  const slots = Buffer.from(await shell('sh', '-c', `tail -c ${slotsLength} ${path} | base64`), 'base64');
  return JSON.parse(decodeSlots(slots)?.json ?? '') as Record<string, unknown> & { config: Record<string, unknown> };
}

function storeFiles(): string[] {
  return ['containers', 'templates'].flatMap((name) => readdirSync(join(store.root, name))).sort();
}

/** Runs a command that must fail so, leave the store as it was, and nothing attached. */
async function expectRefused(args: string[], code: number, ...words: string[]): Promise<void> {
  const before = storeFiles();
  const result = await store.loopbox(args, { timeoutMs: 10_000 });
  for (const word of words) expect(result.stderr).toContain(word);
  expect([args[0], result.code, result.stderr]).toEqual([args[0], code, expect.stringMatching(/^loopbox: Cannot /)]);
  expect(storeFiles()).toEqual(before);
  await expect.poll(() => heldByKernel(store)).toEqual([]);
}

const verbsOfFiles: ((path: string) => string[])[] = [
  (path) => ['import', path, 'new'],
  (path) => ['run', '-d', path, '--', 'true'],
  (path) => ['start', path],
  (path) => ['export', path, nextPath()],
  (path) => ['set', path, '--pids', '9'],
  (path) => ['template', 'create', 'new', '--from', path],
];

async function expectRefusedByAll(path: string, code: number, ...words: string[]): Promise<void> {
  const { mtimeNs } = await stat(path, { bigint: true });
  for (const verb of verbsOfFiles) await expectRefused(verb(path), code, ...words);
  expect((await stat(path, { bigint: true })).mtimeNs).toBe(mtimeNs);
}

describe('a manifest that asks for what no file can grant', () => {
  const wishes = {
    mounts: [{ source: '/', destination: '/host', type: 'bind', options: ['rbind', 'rw'] }],
    devices: ['/dev/sda'],
    capabilities: ['CAP_SYS_ADMIN', 'ALL'],
    privileged: true,
    namespaces: { pid: 'host', network: 'host', mount: 'host', user: 'host' },
    hooks: { prestart: [{ path: '/bin/sh' }] },
    seccomp: { defaultAction: 'SCMP_ACT_ALLOW' },
    '\x1b[31mred\n': 1,
  };
  const probe = [
    ['sed', '-n', '/^Cap\\|^Seccomp:\\|^NoNewPrivs/p', '/proc/self/status'],
    [
      'sh',
      '-c',
      "sed 's/^[0-9]* [0-9]* [0-9:]* //; s, - ext4 [^ ]*, - ext4 X,; s/ [a-z]*:[0-9]*//' /proc/self/mountinfo; ls /dev /host; ls -d /proc/[0-9]*",
    ],
    ['sh', '-c', 'cat /proc/net/dev; cat /proc/self/cgroup; cat /proc/sys/kernel/hostname'],
  ];
  const namespaces = ['pid', 'mnt', 'net', 'ipc', 'uts', 'cgroup'];

  async function withWishes(version = {}): Promise<string> {
    const manifest = await manifestOf(exported);
    const limits = { ...(manifest.config.limits as object), unified: { 'memory.max': 'max' } };
    return withSlots(rawSlots(JSON.stringify({ ...manifest, ...wishes, config: { ...manifest.config, ...wishes, limits } }), version));
  }

  it('is ignored by name, and the run grants nothing', async () => {
    const hostile = await withWishes();
    for (const command of probe) {
      const [plain, result] = [
        await store.loopbox(['run', exported, '--', ...command]),
        await store.loopbox(['run', hostile, '--', ...command]),
      ];
      expect([result.code, result.stdout]).toEqual([plain.code, plain.stdout]);
      for (const key of Object.keys(wishes).filter((key) => key !== '\x1b[31mred\n')) {
        expect(result.stderr).toContain(`asks for "${key}", which no file can grant: ignored`);
        expect(result.stderr).toContain(`asks for "config.${key}", which no file can grant: ignored`);
      }
      expect(result.stderr).toContain('asks for "\\x1b[31mred\\x0a"');
      expect(result.stderr).toContain('"config.limits.unified"');
      expect(result.stderr).not.toContain('\x1b');
    }
    const links = (await store.done('run', hostile, '--', 'sh', '-c', 'for n in /proc/self/ns/*; do readlink $n; done')).split('\n');
    for (const name of namespaces) {
      const link = links.find((link) => link.startsWith(`${name}:`));
      expect([name, link]).not.toEqual([name, readlinkSync(`/proc/self/ns/${name}`)]);
      expect(link).toBeDefined();
    }
  });

  it('loses those wishes when it is imported, or set', async () => {
    const hostile = await withWishes();
    await store.done('import', hostile, 'imported');
    const plain = await manifestOf(exported);
    expect((await store.inspect('imported')).config).toEqual(plain.config);
    await store.done('rm', 'imported');
    expect(await store.loopbox(['set', hostile, '--pids', '77'])).toMatchObject({ code: 0 });
    expect(await manifestOf(hostile)).toEqual({ ...plain, config: { ...plain.config, limits: { pids: 77 } } });
  });

  it('of a newer minor version keeps them unread', async () => {
    const newer = await withWishes({ minor: 9 });
    const result = await store.loopbox(['run', newer]);
    expect(result).toMatchObject({ code: 0, stdout: 'it runs\n' });
    expect(result.stderr).toContain('asks for "mounts", which no file can grant');
    await store.done('set', newer, '--pids', '77');
    expect(await manifestOf(newer)).toMatchObject({
      ...wishes,
      config: { ...wishes, limits: { pids: 77, unified: { 'memory.max': 'max' } } },
    });
    expect(await store.loopbox(['run', newer])).toMatchObject({ code: 0, stdout: 'it runs\n' });
  });
});

describe('a manifest that can not be read is refused, in a FILE and in the store:', () => {
  const golden = (changes: object) => JSON.stringify({ ...sampleManifest({ sizeBytes: 128 * MiB }), ...changes });
  const config = (changes: object) => golden({ config: { ...sampleManifest().config, ...changes } });

  it.each<[string, () => Buffer, number, ...string[]]>([
    ['JSON of 1 GiB, as its footer says', () => rawSlots(golden({}), { length: 1024 ** 3 }), 13, 'its manifest is lost'],
    ['nesting', () => rawSlots(`{"a":${'['.repeat(16_000)}${']'.repeat(16_000)}}`), 13, 'nested too deeply'],
    ['nesting that does not end', () => rawSlots('['.repeat(32_000)), 13, 'not JSON'],
    ['no JSON', () => rawSlots('kind: image'), 13, 'not JSON'],
    ['no object', () => rawSlots('[]'), 13],
    ['bytes that are no text', () => rawSlots(seededBytes(7, 3000)), 13],
    ['a size as text', () => rawSlots(golden({ sizeBytes: String(128 * MiB) })), 13, '"sizeBytes"'],
    ['a size of more than there is', () => rawSlots(golden({ sizeBytes: 256 * MiB })), 13, 'manifest is lost'],
    ['a command as text', () => rawSlots(config({ command: 'rm -rf /' })), 13, '"config.command"'],
    ['a variable that is a number', () => rawSlots(config({ environment: { A: 1 } })), 13, '"config.environment.A"'],
    ['limits below zero', () => rawSlots(config({ limits: { memoryBytes: -1 } })), 13, '"config.limits.memoryBytes"'],
    ['__proto__', () => rawSlots(config({}).replace('"config":{', '"config":{"__proto__":{"privileged":true},')), 13, '__proto__'],
    ['a name that is a path', () => rawSlots(golden({ name: '../../etc/cron.d/x' })), 13, '"name"'],
    ['another kind', () => rawSlots(golden({ kind: 'delta' })), 15, '"kind" is "delta"'],
    ['a newer major version', () => rawSlots(golden({}), { major: 2, minor: 1 }), 15, 'format version 2.1'],
    ['noise', () => seededBytes(3, slotsLength), 13, 'its manifest is lost'],
  ])('%s', async (_, slots, code, ...words) => {
    const path = await withSlots(slots());
    await expectRefused(['import', path, 'new'], code, ...words);
    await expectRefused(['run', '-d', path, '--', 'true'], code, ...words);
    const dropped = store.imageOf('dropped');
    await shell('cp', '--sparse=always', path, dropped);
    try {
      const listed = JSON.parse(await store.done('ls', '--format', 'json')) as { name: string; state: string; reason?: string }[];
      expect(listed.find(({ name }) => name === 'dropped')).toMatchObject({
        state: 'failed',
        reason: expect.stringContaining(words.at(-1) ?? ''),
      });
      expect(await store.loopbox(['start', 'dropped'])).toMatchObject({ code });
    } finally {
      await rm(dropped);
    }
  });
});

describe('an image of somebody else works: run, imported, as a template', () => {
  async function expectWorks(path: string, hasFile?: string): Promise<void> {
    const before = await stat(path);
    const command = ['sh', '-c', `cat ${hasFile ?? '/etc/os-release'} && echo new > /root/new`];
    const run = await store.loopbox(['run', path, '--', ...command]);
    expect(run).toMatchObject({ code: 0, stderr: '' });
    expect((await stat(path)).size).toBe(before.size);
    await shell('e2fsck', '-fn', path);
    await store.done('import', path, 'imported');
    await store.done('set', 'imported', '--', 'sleep', '1000');
    await store.done('start', 'imported');
    expect(await store.done('exec', 'imported', 'cat', hasFile ?? '/etc/os-release', '/root/new')).toBe(`${run.stdout}new`);
    await store.done('rm', '-f', 'imported');
    await store.done('template', 'import', 'imported', path);
    const created = await store.loopbox(['run', '--rm', '--template', 'imported', '--', ...command]);
    expect(created).toMatchObject({ code: 0, stdout: run.stdout });
    await store.done('template', 'rm', 'imported');
  }

  it('with blocks of 1 KiB', async () => {
    await expectWorks(await foreignImage(64 * KiB, '-b', '1024'));
  });

  it('as mke2fs makes it here', async () => {
    await expectWorks(await foreignImage(128 * KiB));
  });

  it('without journal, checksums and extents', async () => {
    await expectWorks(await foreignImage(64 * KiB, '-O', '^has_journal,^metadata_csum,^extent,^64bit'));
  });

  it('with a journal that was not replayed', async () => {
    for (const args of [[], ['-b', '1024']]) {
      const path = await foreignImage(64 * KiB, ...args);
      const unclean = nextPath();
      await mounted(path, 'loop', async (target) => {
        await writeFile(join(target, 'journaled'), 'from the journal\n');
        await shell('sync', '-f', target);
        await shell('cp', '--sparse=always', path, unclean);
      });
      expect(await shell('dumpe2fs', '-h', unclean)).toContain('needs_recovery');
      await expectWorks(unclean, '/journaled');
    }
  });

  it('of ours that a container was killed in', async () => {
    const unclean = nextPath();
    await mounted(exported, 'loop', async (target) => {
      await writeFile(join(target, 'journaled'), 'from the journal\n');
      await shell('sync', '-f', target);
      await shell('cp', '--sparse=always', exported, unclean);
    });
    await expectWorks(unclean, '/journaled');
  });

  it('of a size that no manifest can stand behind, as long as none must', async () => {
    const path = await foreignImage(64 * KiB + 20);
    expect(await store.loopbox(['run', path, '--', 'echo', 'it runs'])).toMatchObject({ code: 0, stdout: 'it runs\n', stderr: '' });
    await expectRefused(['import', path, 'new'], 15, 'not a multiple of 1 MiB');
    await expectRefused(['template', 'import', 'new', path], 15, 'not a multiple of 1 MiB');
    await expectRefused(['template', 'create', 'new', '--from', path], 15, 'not a multiple of 1 MiB');
    await expectRefused(['export', path, nextPath()], 15, 'it has no manifest');
    await store.done('import', '--rescue', path, 'rescued');
    await store.done('rm', 'rescued');
  });
});

describe('a file that is no sound ext4 image is refused', () => {
  async function noise(bytes: Uint8Array, sizeBytes = bytes.length): Promise<string> {
    const path = nextPath();
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
    await expectRefused(['template', 'import', 'new', path], 15, `it is ${name}, not a tar archive`);
  });

  it('as an external journal, or with one (15)', async () => {
    const journal = await noise(Buffer.alloc(0), 16 * MiB);
    await shell('mke2fs', '-q', '-F', '-b', '4096', '-O', 'journal_dev', journal);
    await expectRefusedByAll(journal, 15, 'it is an external journal');
    for (const request of ['ssv journal_dev 0xfe00', 'ssv mount_opts journal_path=/dev/vda']) {
      const path = await copyOf(exported);
      await shell('debugfs', '-w', '-R', request, path);
      await expectRefusedByAll(path, 15, 'its journal lies on another device');
    }
  });

  it('as no image at all (13)', async () => {
    for (const path of [await noise(seededBytes(1, MiB)), await noise(Buffer.alloc(0)), await noise(Buffer.alloc(0), 64 * MiB)]) {
      await expectRefusedByAll(path, 13, 'it is not an ext4 image');
      await expectRefused(['template', 'import', 'new', path], 13, 'Cannot import');
    }
  });

  it('as cut short (13)', async () => {
    for (const path of [await copyOf(exported), await foreignImage(64 * KiB)]) {
      await truncate(path, 48 * MiB);
      await expectRefusedByAll(path, 13, 'it is cut short');
      await expectRefused(['template', 'import', 'new', path], 13, 'it is cut short');
    }
    const withoutManifest = await copyOf(exported);
    await truncate(withoutManifest, 128 * MiB);
    await expectRefusedByAll(withoutManifest, 13, 'its manifest is lost', 'import --rescue');
    await store.done('import', '--rescue', withoutManifest, 'rescued');
    await store.done('rm', 'rescued');
  });

  it('as having outgrown its manifest (13)', async () => {
    const path = await copyOf(exported);
    await truncate(path, 1024 * MiB);
    await shell('e2fsck', '-fp', path);
    await shell('resize2fs', path);
    await expectRefusedByAll(path, 13, 'import --rescue');
  });

  it('with a wrong checksum in the superblock (13)', async () => {
    const path = await copyOf(exported);
    await overwrite(path, 1024 + 0x78, Buffer.from('label'));
    await expectRefusedByAll(path, 13, "its superblock's checksum is wrong");
    await expectRefused(['template', 'import', 'new', path], 13, "its superblock's checksum is wrong");
  });

  /** Where the first group has a thing, in blocks. */
  async function blockOf(path: string, thing: string): Promise<number> {
    return Number(new RegExp(`${thing} at (\\d+)`).exec(await shell('dumpe2fs', path))?.[1]);
  }

  it.each(['Block bitmap', 'Inode bitmap', 'Inode table'])('with a wrong checksum in the %s (13)', async (thing) => {
    for (const [path, blockSize] of [
      [await copyOf(exported), 4096],
      [await foreignImage(64 * KiB, '-b', '1024'), 1024],
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
        await expectRefused(verb, 13, 'its file system is damaged');
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
    ['missing (10)', async () => join(directory, 'nowhere.img'), 10, 'exist|no such file'],
    ['below a file (10)', async () => join(exported, 'x.img'), 10, 'exist|not a directory'],
  ])('%s', async (_, make, code, words) => {
    const path = await make();
    for (const verb of [...verbsOfFiles, () => ['inspect', path], () => ['stop', path], () => ['template', 'import', 'new', path]]) {
      const result = await store.loopbox(verb(path), { timeoutMs: 10_000 });
      expect([verb(path)[0], result.code]).toEqual([verb(path)[0], code]);
      expect(result.stderr).toMatch(code === 15 ? /not a regular file|is a directory/ : new RegExp(words));
    }
  });

  it('the place of an export, with and without --force', async () => {
    for (const path of [await temporaryDirectory(), await fifo(), '/dev/null']) {
      const place = basename(path) === 'null' ? await nullDevice() : path;
      for (const force of [[], ['--force']]) {
        const before = await stat(place);
        await expectRefused(['export', 'base', place, ...force], 15, 'it is not a regular file');
        expect(await stat(place)).toMatchObject({ ino: before.ino, mode: before.mode, rdev: before.rdev });
      }
    }
    const taken = nextPath();
    await writeFile(taken, 'mine');
    await expectRefused(['export', 'base', taken], 11, 'it exists');
    expect(await readFile(taken, 'utf8')).toBe('mine');
  });

  async function nullDevice(): Promise<string> {
    const path = nextPath();
    await shell('mknod', path, 'c', '1', '3');
    return path;
  }

  async function fifo(): Promise<string> {
    const path = nextPath();
    await shell('mkfifo', path);
    return path;
  }

  async function linkLoop(): Promise<string> {
    const path = nextPath();
    await symlink(basename(path), path);
    return path;
  }
});

describe('usage that can not be meant is refused with 2, before anything is done:', () => {
  const bad = ['UPPER', '-x', '.hidden', '..', 'with space', 'ümlaut', 'x'.repeat(64), 'new\nline', 'a:b', '_x', ''];

  it('names of containers', async () => {
    for (const name of bad) {
      for (const args of [
        ['create', '--template', 't', '--', name],
        ['import', exported, name],
        ['rename', 'base', name],
        ['run', '-d', '--template', 't', name],
      ]) {
        if (name.startsWith('-') || args.includes('--')) continue;
        expect([name, args[0], (await store.loopbox(args)).code]).toEqual([name, args[0], 2]);
      }
      expect([name, (await store.loopbox(['create', name, '--template', 't'])).code]).toEqual([name, 2]);
    }
    expect(storeFiles()).toEqual(['base.img', 't.img']);
  });

  it('names of templates', async () => {
    for (const name of [...bad.filter((name) => name !== 'a:b'), 'a:', ':b', 'a:b:c', 'a:ü', `a:${'x'.repeat(33)}`]) {
      expect([name, (await store.loopbox(['template', 'import', name, await busyboxTar()])).code]).toEqual([name, 2]);
      expect([name, (await store.loopbox(['template', 'create', name, '--from', 'base'])).code]).toEqual([name, 2]);
    }
    expect(storeFiles()).toEqual(['base.img', 't.img']);
  });

  it('sizes: no size, below the template’s, below the image’s', async () => {
    await store.done('template', 'import', '--size', '256M', 'large', await busyboxTar());
    for (const size of ['0', '-1', 'x', '1Z', '1e3', '']) {
      expect([size, (await store.loopbox(['create', 'new', '--template', 't', '--size', size])).code]).toEqual([size, 2]);
    }
    const image = await foreignImage(256 * KiB);
    for (const args of [
      ['create', 'new', '--template', 'large', '--size', '128M'],
      ['run', '-d', '--template', 'large', '--size', '128M', 'new'],
      ['template', 'import', 'new', image, '--size', '128M'],
    ]) {
      expect(await store.loopbox(args)).toMatchObject({ code: 2, stderr: expect.stringContaining('256 MiB') });
    }
    await store.done('template', 'rm', 'large');
    expect(storeFiles()).toEqual(['base.img', 't.img']);
  });
});

describe('a root file system with traps where loopbox looks or writes', () => {
  let canary: string;
  beforeAll(async () => {
    canary = join(directory, 'canary');
    await mkdir(join(canary, 'ssh'), { recursive: true });
    for (const name of ['hostname', 'machine-id', 'passwd', 'group', 'ssh/ssh_host_rsa_key'])
      await writeFile(join(canary, name), 'canary\n');
  });

  const traps: Record<string, string> = {
    '/etc is a link to the host': 'rm -r etc; ln -s $CANARY etc',
    '/etc leads up and out': 'rm -r etc; ln -s ../../../../../../..$CANARY etc',
    'files of /etc are links to the host':
      'for f in hostname machine-id passwd group; do ln -sf $CANARY/$f etc/$f; done; ln -s $CANARY/ssh etc/ssh',
    'files of /etc are fifos': 'for f in hostname machine-id; do rm etc/$f; mkfifo etc/$f; done',
    'files of /etc are devices': 'for f in hostname machine-id; do rm etc/$f; mknod etc/$f c 1 3; done',
    '/etc/hostname is a directory, and a file has its name': 'rm etc/hostname; mkdir -p etc/hostname/x',
    '/etc/machine-id is a huge hole': 'truncate -s 100G etc/machine-id',
    '/var/lib is a loop of links': 'rm -r var/lib; ln -s lib var/lib',
  };

  it.each(Object.entries(traps))('does no harm: %s', async (_, script) => {
    const tree = await temporaryDirectory();
    await shell('sh', '-c', `cp -a ${rootfs}/. ${tree}; cd ${tree}; CANARY=${canary}; ${script}`);
    const archive = join(await temporaryDirectory(), 'trap.tar');
    await shell('tar', '-C', tree, '--exclude=./etc/machine-id', '-cf', archive, '.');
    const before = await describeTree(canary);
    await store.done('template', 'import', '--size', '128M', 'trap', archive);
    try {
      await store.done('create', 'trapped', '--template', 'trap');
      await store.done('template', 'create', 'again', '--from', 'trapped');
      expect(await store.loopbox(['run', store.imageOf('trapped'), '--', 'echo', 'it runs'])).toMatchObject({
        code: 0,
        stdout: 'it runs\n',
      });
    } finally {
      await store.loopbox(['rm', 'trapped']);
      await store.loopbox(['template', 'rm', 'trap', 'again']);
    }
    expect(await describeTree(canary)).toEqual(before);
  });

  it('is refused without waiting or filling memory where users are looked up', async () => {
    for (const trap of ['mkfifo etc/passwd', 'mknod etc/passwd b 7 0', 'truncate -s 20G etc/passwd', 'mkdir etc/passwd']) {
      const path = await copyOf(exported);
      await mounted(path, 'loop', async (target) => shell('sh', '-c', `cd ${target}; rm etc/passwd; ${trap}`));
      const result = await store.loopbox(['run', '-d', path, '--', 'true'], { timeoutMs: 10_000 });
      expect([trap, result.code, result.stderr]).toEqual([trap, expect.any(Number), expect.stringMatching(/^loopbox: Cannot /)]);
      expect([12, 13]).toContain(result.code);
      await expect.poll(() => heldByKernel(store)).toEqual([]);
    }
  });

  it('can not make the host panic at its errors, nor mount itself otherwise than we say', async () => {
    const path = await copyOf(exported);
    await shell('tune2fs', '-e', 'panic', '-E', 'mount_opts=errors=panic', path);
    await store.done('run', '-d', path, '--', 'sleep', '1000');
    try {
      const running = heldByKernel(store);
      const device = /loop device (\d+)/.exec(running.join('\n'))?.[1] ?? (await deviceOf(path));
      const options = await readFile(`/proc/fs/ext4/loop${device}/options`, 'utf8');
      expect(options).toContain('errors=remount-ro');
      expect(options).not.toContain('panic');
    } finally {
      await store.done('stop', '-t', '0', path);
    }
    expect(existsSync(path)).toBe(true);
  });

  async function deviceOf(path: string): Promise<string> {
    const line = (await shell('losetup', '-j', path)).split(':')[0] ?? '';
    return line.replace('/dev/loop', '');
  }
});
