import { existsSync, linkSync, mkdirSync, readFileSync, renameSync, rmSync, statfsSync, statSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { MiB } from '../../src/units';
import { execute, shell, smallFileSystem, TestStore, temporaryDirectory, xfsDirectory } from '../fixtures';
import { checksum, contentOf, hostExtents, listContent, outsideOfDisk, uuidOf, withStockMount } from '../image-view';
import { kernelLimits } from '../kernel-limits';

/** Tells all that a container was asked to be: variable, user, directory, host name and data. */
const tell = 'echo "$COLOR $(id -un) $(pwd) $(hostname) $(cat /var/lib/data)"; exec sleep 1000';
const command = ['sh', '-c', tell];
const wish = [
  '--memory',
  '64M',
  '--cpus',
  '0.5',
  '--pids',
  '40',
  '-e',
  'COLOR=green',
  '-w',
  '/tmp',
  '-u',
  'alice',
  '--label',
  'tier=front',
];

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
  limits: { memoryBytes: 64 * MiB, cpus: 0.5, pids: 40 },
  labels: { tier: 'front' },
};

describe.each([
  { type: 'ext4', directory: () => smallFileSystem(2048 * MiB), how: 'copied from' },
  { type: 'XFS', directory: () => xfsDirectory(), how: 'sharing blocks with' },
])('on $type', ({ type, directory, how }) => {
  let place: string;
  let store: TestStore;

  beforeAll(async () => {
    place = await directory();
    store = await TestStore.create(place);
    await importTemplate(store);
  });

  /** Each verb leaves a container in a store of its own. */
  const verbs: Record<string, (store: TestStore) => Promise<Left>> = {
    create: async (store) => {
      expect(await create(store)).toBe(`web: 128 MiB, ${how} busybox`);
      return asWished;
    },
    'start, exec and stop': async (store) => {
      await create(store);
      await store.done('start', 'web');
      const content = await write(store, 'web', 'apples');
      await store.done('stop', '-t', '0', 'web');
      return { ...asWished, says: `${asWished.says} apples`, content };
    },
    'restart and kill': async (store) => {
      await create(store);
      await store.done('start', 'web');
      await write(store, 'web', 'apples');
      await store.done('restart', '-t', '0', 'web');
      const content = await write(store, 'web', 'pears');
      await store.done('kill', 'web');
      expect(await store.done('wait', 'web')).toBe('137');
      return { ...asWished, says: `${asWished.says} pears`, content };
    },
    'a kill -9 of its init': async (store) => {
      await create(store);
      await store.done('start', 'web');
      const content = await write(store, 'web', 'apples');
      process.kill(await pidOf(store, 'web'), 'SIGKILL');
      await store.done('wait', 'web');
      return { ...asWished, says: `${asWished.says} apples`, content };
    },
    set: async (store) => {
      await create(store);
      expect(await store.done('set', 'web', ...change, '--', ...command)).toBe('');
      return changed;
    },
    'set while it runs': async (store) => {
      await create(store);
      await store.done('start', 'web');
      const content = await write(store, 'web', 'apples');
      expect(await store.done('set', 'web', ...change)).toBe(
        'memory, cpus, pids: changed now\nenv, label, hostname, workdir, user: at next start',
      );
      await store.done('stop', '-t', '0', 'web');
      return { ...changed, says: `${changed.says} apples`, content };
    },
    rename: async (store) => {
      await create(store);
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
      await create(store);
      await store.done('export', 'web', join(store.root, 'web.raw'));
      await store.done('import', join(store.root, 'web.raw'), 'copy');
      await store.done('rm', 'web');
      return { ...asWished, name: 'copy', says: 'green alice /tmp copy' };
    },
    'template create': async (store) => {
      await create(store);
      await store.done('template', 'create', 'web-template', '--from', 'web');
      return asWished;
    },
    'template create, and create from that': async (store) => {
      await create(store, '--hostname', 'first');
      await store.done('template', 'create', 'web-template:1', '--from', 'web');
      await store.done('create', 'next', '--template', 'web-template:1');
      return { ...asWished, name: 'next', says: 'green alice /tmp next' };
    },
    'create with a size': async (store) => {
      expect(await create(store, '--size', '300M')).toContain('web: 384 MiB');
      return asWished;
    },
  };

  it.each(Object.keys(verbs))('a plain copy of the file is the container: after %s', async (verb) => {
    const own = await TestStore.create(join(place, 'own'));
    mkdirSync(join(own.root, 'templates'), { recursive: true });
    await shell('cp', templateOf(store), templateOf(own));
    const left = await (verbs[verb] as (store: TestStore) => Promise<Left>)(own);
    await expectPresent(own.imageOf(left.name), left);

    const elsewhere = join(place, 'elsewhere');
    rmSync(elsewhere, { recursive: true, force: true });
    mkdirSync(elsewhere);
    await shell('cp', own.imageOf(left.name), join(elsewhere, 'x.img'));
    rmSync(own.root, { recursive: true });
    await expectRunsAlone(elsewhere, left);
  });

  it(`create and export ${type === 'XFS' ? 'share blocks, which no one counts as their own' : 'copy only data'}`, async () => {
    await store.done('create', 'shared', '--template', 'busybox', '--', 'sleep', '1000');
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
    await expect.poll(() => freeBytes(place) - freeBefore, { timeout: 10_000 }).toBeGreaterThan(0.95 * grown.ls);
  });

  it('a run from a FILE leaves the file what it was but for the disk in it, whatever the flags', async () => {
    await create(store);
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

describe('a file dropped into containers/', () => {
  let store: TestStore;

  beforeAll(async () => {
    store = await TestStore.create();
    await importTemplate(store);
  });

  it('is a container, from another store too', async () => {
    const other = await TestStore.create(await temporaryDirectory());
    mkdirSync(join(other.root, 'containers'), { recursive: true });
    await create(store);
    await shell('cp', store.imageOf('web'), other.imageOf('web'));
    const { containerId, config } = await store.inspect('web');
    await store.done('rm', 'web');

    expect(await other.inspect('web')).toMatchObject({ name: 'web', state: 'created', containerId, config });
    expect(await other.loopbox(['start', 'web'])).toMatchObject({ code: 0, stdout: 'web\n', stderr: '' });
    await expectSays(other, 'web', 'green alice /tmp web');
    expect((await other.inspect('web')).containerId).toBe(containerId);
    await other.done('stop', '-t', '0', 'web');
    rmSync(other.imageOf('web'));
    expect(await other.done('ls', '-q')).toBe('');
  });

  it('that is taken away while it runs goes on, and is listed, until it is stopped', async () => {
    await create(store);
    await store.done('start', 'web');
    const away = join(store.root, 'web.away');
    renameSync(store.imageOf('web'), away);
    expect(await store.done('ps')).toMatch(/^web +running \(its file was taken away\) +\d+ /m);
    expect(await store.inspect('web')).toMatchObject({ state: 'running', reason: 'its file was taken away', files: [] });
    await write(store, 'web', 'apples');
    for (const args of [
      ['create', 'web', '--template', 'busybox'],
      ['import', templateOf(store), 'web'],
    ]) {
      expect(await store.loopbox(args)).toMatchObject({ code: 11, stderr: expect.stringContaining('whose file was taken away runs') });
    }
    await store.done('stop', '-t', '0', 'web');
    expect(await store.loopbox(['inspect', 'web'])).toMatchObject({ code: 10 });
    expect(await store.loopbox(['stop', 'web'])).toMatchObject({ code: 10 });
    expect(await withStockMount(away, async (directory) => readFileSync(join(directory, 'var/lib/data'), 'utf8'))).toBe('apples\n');
    rmSync(away);

    // What the former one of the name left on the host is not taken for the next one's.
    await create(store);
    expect(await store.inspect('web')).toMatchObject({ state: 'created', exitCode: null, startedAt: null });
    expect(await store.done('logs', 'web')).toBe('');
    await store.done('rm', 'web');
  });

  it('takes the name of its file where no other container has its identity', async () => {
    await createWithIdentity(store, 'first');
    const before = await identityOf(store, 'first');
    renameSync(store.imageOf('first'), store.imageOf('second'));
    expect(await store.loopbox(['start', 'second'])).toMatchObject({ code: 0, stderr: '' });
    await store.done('stop', '-t', '0', 'second');
    expect(await identityOf(store, 'second')).toEqual(before);

    // Its manifest says so: a copy under the old name is now the one that is a copy.
    await shell('cp', store.imageOf('second'), store.imageOf('first'));
    expect((await store.loopbox(['start', 'first'])).stderr).toBe('warning: "first" is a copy of "second": it gets a new identity\n');
    await store.done('rm', '-f', 'first', 'second');
  });

  it('gets a new identity where it is a copy of a container beside it, which keeps its own', async () => {
    await createWithIdentity(store, 'one');
    await shell('cp', store.imageOf('one'), store.imageOf('two'));
    expect((await store.done('ls', '-q')).split('\n')).toEqual(['one', 'two']);
    const before = await identityOf(store, 'one');
    expect(await identityOf(store, 'two')).toEqual(before);

    await store.done('start', 'one');
    const started = await store.loopbox(['start', 'two']);
    expect(started).toMatchObject({ code: 0, stderr: 'warning: "two" is a copy of "one": it gets a new identity\n' });
    expect(await inside(store, 'two', 'cat /etc/hostname /proc/sys/kernel/hostname /var/lib/data')).toBe('two\ntwo\ndata of one');
    await stopAll(store);
    expect(await identityOf(store, 'one')).toEqual(before);
    const after = await identityOf(store, 'two');
    expect(after.machineId).toBe('');
    expect(after.hostname).toBe('two');
    expect(after.container).not.toBe(before.container);
    expect(after.uuid).not.toBe(before.uuid);

    expect(await store.loopbox(['restart', '-t', '0', 'one', 'two'])).toMatchObject({ code: 0, stderr: '' });
    await stopAll(store);
    expect(await identityOf(store, 'two')).toEqual(after);
    await store.done('rm', 'one', 'two');
  });

  it('keeps being the copy when it is renamed, also to the name that its manifest bears', async () => {
    await createWithIdentity(store, 'one');
    await shell('cp', store.imageOf('one'), store.imageOf('two'));
    const before = await identityOf(store, 'one');
    await store.done('rename', 'one', 'three');
    await store.done('rename', 'two', 'one');
    expect((await store.loopbox(['start', 'three'])).stderr).toBe('');
    expect((await store.loopbox(['start', 'one'])).stderr).toBe('warning: "one" is a copy of "three": it gets a new identity\n');
    await stopAll(store);
    expect(await identityOf(store, 'three')).toEqual(before);
    expect((await identityOf(store, 'one')).container).not.toBe(before.container);
    await store.done('rm', 'one', 'three');
  });

  it('starts unsealed with an identity of its own where it is a template, which stays as it is', async () => {
    const template = templateOf(store);
    const before = await checksum(template);
    for (const name of ['dropped', 'again']) {
      await shell('cp', template, store.imageOf(name));
      await store.done('set', name, '--', 'sleep', '1000');
      expect(await store.loopbox(['start', name])).toMatchObject({ code: 0, stdout: `${name}\n` });
      expect(await inside(store, name, 'touch /var/lib/new; cat /etc/machine-id /etc/hostname')).toBe(name);
    }
    await stopAll(store);
    const [dropped, again] = [await identityOf(store, 'dropped'), await identityOf(store, 'again')];
    expect(dropped.container).toMatch(/^[0-9a-f-]{36}$/);
    expect(dropped.container).not.toBe(again.container);
    expect(new Set([uuidOf(template), dropped.uuid, again.uuid]).size).toBe(3);
    expect(await checksum(template)).toBe(before);
    await store.done('create', 'fine', '--template', 'busybox');
    await store.done('rm', 'dropped', 'again', 'fine');
  });

  it('is refused where it is a hard link to a template, until it is copied as the hint says', async () => {
    const template = templateOf(store);
    const before = await checksum(template);
    linkSync(template, store.imageOf('linked'));
    for (const args of [
      ['start', 'linked'],
      ['set', 'linked', '--memory', '64M'],
    ]) {
      const refused = await store.loopbox(args);
      expect(refused, args[0]).toMatchObject({ code: 11, stderr: expect.stringContaining('its file is sealed and has other hard links') });
    }
    await store.done('rename', 'linked', 'link');
    const { stderr } = await store.loopbox(['start', 'link']);
    const hint = /^hint: (cp .*)$/m.exec(stderr)?.[1];
    await shell('sh', '-c', hint ?? 'false');
    expect(await checksum(template)).toBe(before);
    expect(statSync(template).nlink).toBe(1);
    await store.done('set', 'link', '--', 'sleep', '1000');
    await store.done('start', 'link');
    await store.done('rm', '-f', 'link');
    expect(await checksum(template)).toBe(before);
  });
});

describe('stock resize2fs', () => {
  it('finds nothing to grow into', async () => {
    const store = await TestStore.create();
    await importTemplate(store);
    for (const [name, ...flags] of [['web'], ['sized', '--size', '300M']] as [string, ...string[]][]) {
      await store.done('create', name, '--template', 'busybox', ...flags);
      const image = store.imageOf(name);
      const before = outsideOfDisk(image);
      // Without a check it may refuse; with one it looks.
      await execute('resize2fs', [image]);
      expect((await resize(image)).stderr).toContain('Nothing to do!');
      expect(outsideOfDisk(image)).toEqual(before);
      expect(await store.inspect(name)).toMatchObject({ state: 'created', sizeBytes: before.size - 64 * 1024 });
    }
  });

  it('that was given more room is told from a damage, and import --rescue is the way back', async () => {
    const store = await TestStore.create();
    await importTemplate(store);
    await create(store);
    await store.done('start', 'web');
    await write(store, 'web', 'apples');
    await store.done('stop', '-t', '0', 'web');
    const file = store.imageOf('web');

    await shell('truncate', '-s', '+1G', file);
    // The manifest lies where it lay: as yet nothing is lost.
    expect(await store.inspect('web')).toMatchObject({ state: 'stopped', limits: asWished.limits });
    await shell('e2fsck', '-fp', file);
    await resize(file);

    for (const verb of ['start', 'set', 'export']) {
      const args = [verb, 'web', ...({ set: ['--pids', '50'], export: [`${file}.raw`] }[verb] ?? [])];
      const result = await store.loopbox(args);
      expect(result, verb).toMatchObject({ code: 13, stdout: '' });
      expect(result.stderr).toMatch(/has outgrown it|its manifest is lost/);
      expect(result.stderr).toContain(`hint: loopbox import --rescue ${file}`);
    }
    expect(await store.inspect('web')).toMatchObject({ state: 'failed', reason: expect.stringMatching(/outgrown|lost/) });
    expect(await store.loopbox(['import', file, 'other'])).toMatchObject({ code: 13 });

    expect(await store.loopbox(['import', '--rescue', file, 'rescued'])).toMatchObject({
      code: 0,
      stdout: expect.stringMatching(/^rescued: 1\.\d GiB\n$/),
    });
    expect(await store.inspect('rescued')).toMatchObject({ state: 'created', limits: {} });
    await store.done('set', 'rescued', '--', 'sleep', '1000');
    await store.done('start', 'rescued');
    expect(await inside(store, 'rescued', 'cat /var/lib/data')).toBe('apples');
    expect(Number(await inside(store, 'rescued', "df -m / | awk 'NR == 2 { print $2 }'"))).toBeGreaterThan(1000);
    await store.done('rm', '-f', 'rescued', 'web');
  });
});

const change = [
  '--memory',
  '80M',
  '--cpus',
  'none',
  '--pids',
  '50',
  '-e',
  'COLOR=blue',
  '-w',
  '/var/lib',
  '-u',
  'root',
  '--hostname',
  'stall',
];
change.push('--label', 'tier-', '--label', 'floor=2');
const changed: Left = {
  name: 'web',
  says: 'blue root /var/lib stall',
  limits: { memoryBytes: 80 * MiB, pids: 50 },
  labels: { floor: '2' },
};

function importTemplate(store: TestStore): Promise<void> {
  return store.importBusybox('busybox', '--size', '128M');
}

function templateOf(store: TestStore): string {
  return join(store.root, 'templates/busybox.img');
}

function create(store: TestStore, ...flags: string[]): Promise<string> {
  return store.done('create', 'web', '--template', 'busybox', ...wish, ...flags, '--', ...command);
}

function inside(store: TestStore, name: string, line: string): Promise<string> {
  return store.done('exec', '-u', 'root', name, 'sh', '-c', line);
}

/** Writes data in a running container and returns all of its content. */
async function write(store: TestStore, name: string, data: string): Promise<string> {
  return inside(store, name, `echo ${data} > /var/lib/data; ${listContent}`);
}

async function pidOf(store: TestStore, name: string): Promise<number> {
  return Number((await store.inspect(name)).pid);
}

async function stopAll(store: TestStore): Promise<void> {
  const names = (await store.done('ps', '-q')).split('\n').filter(Boolean);
  await store.done('stop', '-t', '0', ...names);
  await expect.poll(() => store.done('ps', '-q'), { timeout: 10_000 }).toBe('');
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

async function expectSays(store: TestStore, name: string, says: string): Promise<void> {
  await expect.poll(() => store.done('logs', name), { timeout: 10_000 }).toBe(says);
}

/** A stopped container with data and a machine-id, as one that has run for long. */
async function createWithIdentity(store: TestStore, name: string): Promise<void> {
  await store.done('create', name, '--template', 'busybox', '--', 'sleep', '1000');
  await store.done('start', name);
  await inside(store, name, `echo data of ${name} > /var/lib/data; echo 11112222333344445555666677778888 > /etc/machine-id`);
  await store.done('stop', '-t', '0', name);
}

async function identityOf(store: TestStore, name: string) {
  const image = store.imageOf(name);
  const [machineId, hostname] = await withStockMount(image, async (directory) =>
    ['machine-id', 'hostname'].map((file) => readFileSync(join(directory, 'etc', file), 'utf8').trim()),
  );
  return { container: (await store.inspect(name)).containerId, uuid: uuidOf(image), machineId, hostname };
}

/** resize2fs wants a check after every mount. */
async function resize(image: string) {
  await shell('e2fsck', '-fp', image);
  return execute('resize2fs', [image]);
}
