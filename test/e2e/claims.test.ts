import { mkdir, readFile, rename, rm, symlink } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeEach, describe, expect, it } from 'vitest';
import { MiB } from '../../src/units';
import { cleanUp, execute, shell, TestStore, temporaryDirectory } from '../fixtures';
import { kernelLimits } from '../kernel-limits';

let store: TestStore;

beforeEach(async () => {
  store = await TestStore.create();
  await store.importBusybox();
  await store.createBusybox('web', '--full', '--', 'sleep', '1000');
});

async function fails(code: number, ...args: string[]): Promise<string> {
  const result = await store.loopbox(args);
  expect(result.code, `loopbox ${args.join(' ')}: ${result.stdout}${result.stderr}`).toBe(code);
  return result.stderr;
}

/** Attaches a file with stock losetup, until the test is over. */
async function attach(path: string, ...options: string[]): Promise<string> {
  const device = await shell('losetup', '--find', '--show', ...options, path);
  cleanUp(async () => void (await execute('losetup', ['--detach', device])));
  return device;
}

describe('a file that stock tools have attached', () => {
  it('is neither started nor copied, by any name, until they let go of it', async () => {
    const image = store.imageOf('web');
    const device = await attach(image);
    for (const args of [
      ['start', 'web'],
      ['run', '-d', image],
      ['export', 'web', join(store.root, 'x.img')],
      ['import', image, 'y'],
      ['template', 'create', 't', '--from', 'web'],
    ]) {
      expect(await fails(11, ...args)).toContain(`is attached as ${device}`);
    }
    await shell('losetup', '--detach', device);
    await store.done('start', 'web');
  });

  it('is copied all the same where it is sealed and only read', async () => {
    await attach(join(store.root, 'templates/busybox.img'), '--read-only');
    await store.done('create', 'other', '--template', 'busybox');
  });
});

describe('a container of the store that is given by path', () => {
  it('is the container: one state, one lock, live limits', async () => {
    const image = store.imageOf('web');
    await store.done('start', 'web');
    expect((await store.inspect(image)).state).toBe('running');
    expect(await store.done('set', image, '--pids', '50')).toContain('pids: changed now');
    expect(await fails(11, 'run', '-d', image)).toContain('is running');
    await store.done('stop', '-t', '0', image);
    expect((await store.inspect('web')).state).toBe('stopped');
  });

  it('is neither removed nor changed outside its file system by run --rm', async () => {
    const image = store.imageOf('web');
    const before = await shell('tail', '-c', '65536', image);
    expect((await store.loopbox(['run', '--rm', image, '--', 'true'])).code).toBe(0);
    expect(await shell('tail', '-c', '65536', image)).toBe(before);
    expect(await store.done('ls', '-q')).toBe('web');
    await fails(2, 'rm', image);
  });

  it('is the same through a symbolic and through a hard link', async () => {
    const directory = await temporaryDirectory();
    await symlink(store.imageOf('web'), join(directory, 'soft.img'));
    await shell('ln', store.imageOf('web'), join(directory, 'hard.img'));
    await store.done('start', 'web');
    for (const link of ['soft.img', 'hard.img']) expect((await store.inspect(join(directory, link))).name).toBe('web');
  });
});

describe('a sealed file that was changed', () => {
  it('is refused by name wherever it would be used', async () => {
    const sealed = join(store.root, 'containers/dropped.img');
    await shell('cp', '--sparse=always', join(store.root, 'templates/busybox.img'), sealed);
    await shell('tune2fs', '-L', 'changed', sealed);
    for (const args of [
      ['start', 'dropped'],
      ['set', 'dropped', '--pids', '50'],
      ['import', sealed, 'copy'],
      ['run', '--ephemeral', sealed, '--', 'true'],
      ['template', 'import', 'again', sealed],
    ]) {
      const code = args[0] === 'run' ? 125 : 13;
      expect(await fails(code, ...args)).toContain('was changed after it was sealed');
    }
  });
});

describe('set', () => {
  it('keeps the limits that were given for one run only', async () => {
    const file = join(store.root, 'alone.img');
    await store.done('export', 'web', file);
    await store.done('run', '-d', '--memory', '64M', file);
    await store.done('set', file, '--pids', '50');
    const { pid } = await store.inspect(file);
    expect(kernelLimits(pid as number)).toMatchObject({ memoryBytes: 64 * MiB, pids: 50 });
    await store.done('stop', '-t', '0', file);
  });
});

describe('a root below a symbolic link', () => {
  it('is one root before and after its directory is made', async () => {
    const directory = await temporaryDirectory();
    const file = join(directory, 'alone.img');
    await store.done('export', 'web', file);
    await mkdir(join(directory, 'real'));
    await symlink(join(directory, 'real'), join(directory, 'link'));
    const there = { env: { LOOPBOX_ROOT: join(directory, 'link/new') } };
    expect((await store.loopbox(['run', '-d', '--rm', file], there)).code).toBe(0);
    await mkdir(join(directory, 'real/new/containers'), { recursive: true });
    expect((await store.loopbox(['ls', '-q'], there)).stdout.trim()).toBe(file);
    expect((await store.loopbox(['stop', '-t', '0', file], there)).code).toBe(0);
    await expect.poll(async () => (await store.loopbox(['ls', '-q'], there)).stdout).toBe('');
  });
});

describe('template import of an exported container', () => {
  it('keeps its command and environment, and leaves its host name behind', async () => {
    await store.done('set', 'web', '-e', 'GREETING=hello', '--hostname', 'web-host');
    await store.done('export', 'web', join(store.root, 'web.img'));
    await store.done('template', 'import', 't', join(store.root, 'web.img'), '-e', 'MORE=1');
    const template = JSON.parse(await store.done('template', 'inspect', '--format', 'json', 't')) as { config: object };
    expect(template.config).toEqual({
      command: ['sleep', '1000'],
      environment: { GREETING: 'hello', MORE: '1' },
      labels: {},
      limits: {},
    });
  });
});

describe('a new identity', () => {
  it('is given to a copy in the store, durably before its manifest says so', async () => {
    await store.done('start', 'web');
    await store.done('stop', '-t', '0', 'web');
    await shell('cp', '--sparse=always', store.imageOf('web'), store.imageOf('copy'));
    const trace = join(await temporaryDirectory(), 'trace');
    const traced = execute('strace', ['-f', '-e', 'trace=ioctl,syncfs,pwrite64', '-o', trace, 'bin/loopbox', 'start', 'copy'], {
      env: store.environment,
    });
    await expect.poll(async () => (await store.inspect('copy')).state).toBe('running');
    // strace ends with the last that it follows.
    await store.done('stop', '-t', '0', 'copy');
    await traced;
    const calls = (await readFile(trace, 'utf8')).split('\n');
    const order = ['0x66, 0x2c', 'syncfs(', '\\"container\\"'].map((call) => calls.findIndex((line) => line.includes(call)));
    expect(order).not.toContain(-1);
    expect(order).toEqual(order.toSorted((a, b) => a - b));
  });
});

describe('a container that can not be started', () => {
  it('is kept by create --start, which says so, and is still called created', async () => {
    const stderr = await fails(1, 'create', 'broken', '--template', 'busybox', '--start', '--', '/no/such/command');
    expect(stderr).toContain('"broken" is created, but not started');
    expect((await store.inspect('broken')).state).toBe('created');
  });
});

describe('export', () => {
  it('names a directory whose file system has no files without a name', async () => {
    expect(await fails(15, 'export', 'web', '/sys/x.img')).toContain('O_TMPFILE');
  });
});

it('a file that was replaced between two commands is the new one', async () => {
  await store.createBusybox('other', '--full', '--', 'sh', '-c', 'exit 7');
  await rm(store.imageOf('web'));
  await rename(store.imageOf('other'), store.imageOf('web'));
  expect((await store.loopbox(['run', store.imageOf('web')])).code).toBe(7);
});
