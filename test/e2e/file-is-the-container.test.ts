import { existsSync, mkdirSync, readFileSync, rmSync, statfsSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { MiB } from '../../src/units';
import { shell, smallFileSystem, TestStore, xfsDirectory } from '../fixtures';
import { checksum, contentOf, hostExtents, outsideOfDisk, withStockMount } from '../image-view';
import { kernelLimits } from '../kernel-limits';
import { heldByKernel } from '../remains';
import { command, createWeb, expectSays, inside, stopAll, tell, templateOf, wish, wishedLimits, write } from '../web-container';

/** A stopped container as a verb left it, and what it must be wherever its file goes. */
interface Left {
  name: string;
  /** What its command says. */
  says: string;
  limits: { memoryBytes?: number; cpus?: number; pids?: number };
  labels: Record<string, string>;
  /** What `listContent` printed inside, where it has run. */
  content?: string;
}

const asWished: Left = {
  name: 'web',
  says: 'green alice /tmp web',
  limits: wishedLimits,
  labels: { tier: 'front' },
};

const change = '--memory 80M --cpus none --pids 50 -e COLOR=blue -w /var/lib -u root --hostname stall --label tier- --label floor=2'.split(
  ' ',
);
const changed: Left = {
  name: 'web',
  says: 'blue root /var/lib stall',
  limits: { memoryBytes: 80 * MiB, pids: 50 },
  labels: { floor: '2' },
};

describe.each([
  { type: 'ext4', directory: () => smallFileSystem(2048 * MiB), how: 'linked to busybox; attach: stack' },
  { type: 'XFS', directory: () => xfsDirectory(), how: 'sharing blocks with busybox; attach: direct' },
])('on $type', ({ type, directory, how }) => {
  let place: string;
  let store: TestStore;

  beforeAll(async () => {
    place = await directory();
    store = await TestStore.create(place);
    await store.importBusybox('busybox', '--size', '128M');
  });

  /** Each verb leaves a container in a store of its own. */
  const verbs: Record<string, (store: TestStore) => Promise<Left>> = {
    create: async (store) => {
      expect(await createWeb(store)).toBe(`web: 128 MiB, ${how}`);
      return asWished;
    },
    'start, exec and stop': async (store) => {
      await createWeb(store);
      await store.done('start', 'web');
      const content = await write(store, 'web', 'apples');
      await store.done('stop', '-t', '0', 'web');
      return { ...asWished, says: `${asWished.says} apples`, content };
    },
    'restart and kill': async (store) => {
      await createWeb(store);
      await store.done('start', 'web');
      await write(store, 'web', 'apples');
      await store.done('restart', '-t', '0', 'web');
      const content = await write(store, 'web', 'pears');
      await store.done('kill', 'web');
      expect(await store.done('wait', 'web')).toBe('137');
      return { ...asWished, says: `${asWished.says} pears`, content };
    },
    'a kill -9 of its init': async (store) => {
      await createWeb(store);
      await store.done('start', 'web');
      const content = await write(store, 'web', 'apples');
      process.kill(await pidOf(store, 'web'), 'SIGKILL');
      await store.done('wait', 'web');
      return { ...asWished, says: `${asWished.says} apples`, content };
    },
    set: async (store) => {
      await createWeb(store);
      expect(await store.done('set', 'web', ...change, '--', ...command)).toBe('');
      return changed;
    },
    'set while it runs': async (store) => {
      await createWeb(store);
      await store.done('start', 'web');
      const content = await write(store, 'web', 'apples');
      expect(await store.done('set', 'web', ...change)).toBe(
        'memory, cpus, pids: changed now\nenv, label, hostname, workdir, user: at next start',
      );
      await store.done('stop', '-t', '0', 'web');
      return { ...changed, says: `${changed.says} apples`, content };
    },
    rename: async (store) => {
      await createWeb(store);
      await store.done('rename', 'web', 'shop');
      return { ...asWished, name: 'shop', says: 'green alice /tmp shop' };
    },
    'run, detached': async (store) => {
      expect(await store.done('run', '-d', '--template', 'busybox', 'web', ...wish, '--', ...command)).toBe('web');
      await store.done('stop', '-t', '0', 'web');
      return asWished;
    },
    'run to its end': async (store) => {
      const script = `[ -f /var/lib/data ] || { echo plums > /var/lib/data; exit 3; }; ${tell}`;
      const result = await store.loopbox(['run', '--template', 'busybox', 'web', ...wish, '-u', 'root', '--', 'sh', '-c', script]);
      expect(result).toMatchObject({ code: 3, stdout: '' });
      return { ...asWished, says: 'green root /tmp web plums' };
    },
    'export and import': async (store) => {
      await createWeb(store);
      await store.done('export', 'web', join(store.root, 'web.raw'));
      await store.done('import', join(store.root, 'web.raw'), 'copy');
      await store.done('rm', 'web');
      return { ...asWished, name: 'copy', says: 'green alice /tmp copy' };
    },
    'template create': async (store) => {
      await createWeb(store);
      await store.done('template', 'create', 'web-template', '--from', 'web');
      return asWished;
    },
    'template create, and create from that': async (store) => {
      await createWeb(store, '--hostname', 'first');
      await store.done('template', 'create', 'web-template:1', '--from', 'web');
      await store.done('create', 'next', '--template', 'web-template:1');
      return { ...asWished, name: 'next', says: 'green alice /tmp next' };
    },
    'create with a size': async (store) => {
      expect(await createWeb(store, '--size', '300M')).toContain('web: 384 MiB');
      return asWished;
    },
  };

  it.each(Object.keys(verbs))('a plain copy of the file is the container: after %s', async (verb) => {
    const own = await TestStore.create(join(place, 'own'));
    mkdirSync(join(own.root, 'templates'), { recursive: true });
    await shell('cp', templateOf(store), templateOf(own));
    const left = await (verbs[verb] as (store: TestStore) => Promise<Left>)(own);
    // The kernel lets go of a disk behind the container's end.
    await expect.poll(() => heldByKernel(own)).toEqual([]);
    // A linked one is such a file once it is flattened.
    if (own.fileOf(left.name).endsWith('.delta')) await own.done('flatten', left.name);
    await expectPresent(own.imageOf(left.name), left);

    const elsewhere = join(place, 'elsewhere');
    rmSync(elsewhere, { recursive: true, force: true });
    mkdirSync(elsewhere);
    await shell('cp', own.imageOf(left.name), join(elsewhere, 'x.img'));
    rmSync(own.root, { recursive: true });
    await expectRunsAlone(elsewhere, left);
  });

  it(`create and export ${type === 'XFS' ? 'share blocks, which no one counts as their own' : 'copy only data'}`, async () => {
    await store.createBusybox('shared', '--full', '--', 'sleep', '1000');
    const file = join(place, 'shared.raw');
    await store.done('export', 'shared', file);
    const sharesBlocks = type === 'XFS';
    for (const path of [templateOf(store), store.imageOf('shared'), file]) {
      const { allocatedBytes, sharedBytes } = await hostExtents(path);
      expect(allocatedBytes).toBeLessThan(16 * MiB);
      if (sharesBlocks) expect(sharedBytes).toBeGreaterThan(0.8 * allocatedBytes);
      else expect(sharedBytes).toBe(0);
    }
    const own = await ownBytes(store, 'shared');
    const { allocatedBytes, sharedBytes } = await hostExtents(store.imageOf('shared'));
    expect(Math.abs(own.ls - (allocatedBytes - sharedBytes))).toBeLessThan(MiB / 4);
    expect(own.df).toBe(own.ls);
    rmSync(file);

    await store.done('start', 'shared');
    await inside(store, 'shared', 'dd if=/dev/urandom of=/var/lib/big bs=1M count=24 2>/dev/null');
    await store.done('stop', '-t', '0', 'shared');
    const grown = await ownBytes(store, 'shared');
    expect(grown.ls - own.ls).toBeGreaterThan(23 * MiB);
    expect(grown.df).toBe(grown.ls);
    const freeBefore = freeBytes(place);
    await store.done('rm', 'shared');
    await expect.poll(() => freeBytes(place) - freeBefore).toBeGreaterThan(0.95 * grown.ls);
  });

  it('a run from a FILE leaves the file what it was but for the disk in it, whatever the flags', async () => {
    await createWeb(store);
    const file = join(place, 'file.img');
    await store.done('export', 'web', file);
    await store.done('rm', 'web');
    const link = join(place, 'link');
    symlinkSync(file, link);
    const before = outsideOfDisk(file);

    const add = ['-u', 'root', '--', 'sh', '-c', 'echo more >> /var/lib/data; wc -l < /var/lib/data'];
    for (const [flags, lines, path] of [
      [[], 1],
      [['--rm'], 2],
      [['--ephemeral'], 3],
      [['--ephemeral', '--rm'], 3],
      [['--memory', '80M', '--hostname', 'other', '-e', 'COLOR=red', '--label', 'a=b'], 3, link],
    ] as [string[], number, string?][]) {
      expect(await store.done('run', ...flags, path ?? file, ...add), `with ${flags.join(' ')}`).toBe(String(lines));
      expect(outsideOfDisk(file)).toEqual(before);
    }
    for (const flags of [['-d'], ['-d', '--rm'], ['-d', '--ephemeral'], ['-d', '--ephemeral', '--rm']]) {
      expect(await store.done('run', ...flags, file)).toBe(file);
      expect(await store.done('ps', '-q')).toBe(file);
      expect(await store.inspect(file)).toMatchObject({ name: file, state: 'running' });
      expect(await inside(store, file, 'id -u')).toBe('0');
      await stopAll(store);
      expect(outsideOfDisk(file)).toEqual(before);
    }
    await store.done('start', file);
    await store.done('restart', '-t', '0', file);
    await store.done('kill', file);
    await store.done('wait', file);
    expect(outsideOfDisk(file)).toEqual(before);

    for (const args of [
      ['rm', '-f', file],
      ['rename', file, 'web'],
      ['run', '--size', '1G', file],
      ['run', '--template', 'busybox', file],
    ]) {
      expect(await store.loopbox(args), args.join(' ')).toMatchObject({ code: 2, stdout: '' });
    }
    expect(outsideOfDisk(file)).toEqual(before);
    expect(await withStockMount(file, async (directory) => readFileSync(join(directory, 'var/lib/data'), 'utf8'))).toBe('more\n'.repeat(3));
  });

  it('a sealed FILE is run only as an ephemeral copy', async () => {
    const before = await checksum(templateOf(store));
    const refused = await store.loopbox(['run', templateOf(store), '--', 'true']);
    expect(refused).toMatchObject({ code: 125, stderr: expect.stringContaining('it is sealed') });
    expect(refused.stderr).toContain(`hint: loopbox run --ephemeral ${templateOf(store)}`);
    expect(await store.done('run', '--ephemeral', templateOf(store), '--', 'cat', '/etc/hostname')).toBe('busybox');
    const set = await store.loopbox(['set', templateOf(store), '--memory', '64M']);
    expect(set).toMatchObject({ code: 11, stderr: expect.stringContaining('it is sealed') });
    expect(await checksum(templateOf(store))).toBe(before);
  });
});

async function pidOf(store: TestStore, name: string): Promise<number> {
  return Number((await store.inspect(name)).pid);
}

async function ownBytes(store: TestStore, name: string): Promise<{ ls: number; df: number }> {
  const find = (list: { name: string; ownBytes: number }[]) => list.find((entry) => entry.name === name)?.ownBytes ?? Number.NaN;
  const ls = JSON.parse(await store.done('ls', '--format', 'json')) as { name: string; ownBytes: number }[];
  const df = JSON.parse(await store.done('df', '--format', 'json')) as { containers: { name: string; ownBytes: number }[] };
  return { ls: find(ls), df: find(df.containers) };
}

function freeBytes(directory: string): number {
  const { bfree, bsize } = statfsSync(directory);
  return bfree * bsize;
}

/** Law 9: a stock read-only mount of the file shows the present. */
async function expectPresent(image: string, left: Left): Promise<void> {
  await withStockMount(image, async (directory) => {
    if (left.content !== undefined) expect(await contentOf(directory)).toBe(left.content);
    else expect(readFileSync(join(directory, 'etc/passwd'), 'utf8')).toContain('alice');
    expect(existsSync(join(directory, 'bin/busybox'))).toBe(true);
  });
  await shell('e2fsck', '-fn', image);
}

/** In a new root, a file is the container that it was in the old one. */
async function expectRunsAlone(elsewhere: string, left: Left): Promise<void> {
  const store = await TestStore.create(elsewhere);
  const file = join(elsewhere, 'x.img');
  const before = outsideOfDisk(file);
  expect(await store.loopbox(['run', '-d', file])).toMatchObject({ code: 0, stdout: `${file}\n`, stderr: '' });
  await expectSays(store, file, left.says);
  const { pid, limits, config } = await store.inspect(file);
  expect(limits).toEqual(left.limits);
  expect((config as { labels: object }).labels).toEqual(left.labels);
  const { swapBytes, ...kernel } = kernelLimits(pid as number);
  expect(kernel).toEqual(left.limits);
  expect(swapBytes ?? 0).toBe(0);
  await store.done('stop', '-t', '0', file);
  expect(outsideOfDisk(file)).toEqual(before);
}
