import { mkdir, symlink } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { MiB } from '../../src/units';
import { program, shell, type TestStore, temporaryDirectory } from '../fixtures';
import { checksum } from '../image-view';
import { rawImage } from '../raw-image';
import { exportSleeper, sleep, storeWithSleeper } from '../sleeper';

let store: TestStore;
let place: string;

beforeAll(async () => {
  store = await storeWithSleeper('box', '--start');
  place = await temporaryDirectory();
});

describe('set and rename', () => {
  it('set keeps what it is not told, adds, changes and removes', async () => {
    await store.createBusybox('config', '-e', 'A=1', '-e', 'B=2', '--label', 'x=1', '--memory', '64M', ...sleep);
    expect(await store.loopbox(['set', 'config', '-e', 'B=3', '-e', 'A-', '-e', 'C=', '--label', 'y=2'])).toMatchObject({
      code: 0,
      stdout: '',
      stderr: '',
    });
    expect(await store.inspect('config')).toMatchObject({
      config: { command: ['sleep', '1000'], environment: { B: '3', C: '' }, labels: { x: '1', y: '2' }, limits: { memoryBytes: 64 * MiB } },
    });
    expect(await store.loopbox(['set', 'config', '--memory', '1', '--pids', '0'])).toMatchObject({ code: 2 });
    expect(await store.loopbox(['set', 'config', '-e', `BIG=${'x'.repeat(40_000)}`])).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('Cannot '),
    });
    expect((await store.inspect('config')).config).toMatchObject({ environment: { B: '3', C: '' } });
    await store.done('rm', 'config');
  });

  it('set of a file without a manifest is refused with the way to one', async () => {
    const image = await rawImage(place);
    const before = await checksum(image);
    expect(await store.loopbox(['set', image, '--memory', '64M'])).toMatchObject({
      code: 15,
      stderr: expect.stringContaining(`hint: loopbox import ${image}\n`),
    });
    expect(await checksum(image)).toBe(before);
    await shell('cp', image, store.imageOf('foreign'));
    expect(await store.inspect('foreign')).toMatchObject({ name: 'foreign', state: 'stopped', limits: {} });
    const { code, stderr } = await store.loopbox(['set', 'foreign', '--memory', '64M']);
    expect(code).toBe(15);
    const hint = /^hint: loopbox (.*)$/m.exec(stderr)?.[1]?.replace('NEW-NAME', 'domestic');
    await store.done(...(hint?.split(' ') ?? []));
    await store.done('set', 'domestic', '--memory', '64M');
    expect((await store.inspect('domestic')).limits).toEqual({ memoryBytes: 64 * MiB });
    await store.done('start', 'foreign');
    await store.done('rm', '-f', 'foreign', 'domestic');
  });

  it('rename takes the container, its last state and its log along', async () => {
    await store.runBusybox('old', '--', 'sh', '-c', 'echo said; exit 3');
    await store.done('wait', 'old');
    expect(await store.loopbox(['rename', 'old', 'new'])).toMatchObject({ code: 0, stdout: '', stderr: '' });
    expect(await store.inspect('new')).toMatchObject({ name: 'new', state: 'failed', exitCode: 3 });
    expect(await store.done('logs', 'new')).toBe('said');
    for (const [args, code] of [
      [['rename', 'old', 'other'], 10],
      [['rename', 'new', 'box'], 11],
      [['rename', 'box', 'other'], 11],
      [['rename', 'new', 'new'], 2],
      [['rename', 'new', 'No'], 2],
    ] as [string[], number][]) {
      expect(await store.loopbox(args), args.join(' ')).toMatchObject({ code, stdout: '' });
    }
    await store.done('rm', 'new');
  });

  it('rm wants -f for what runs', async () => {
    await store.runBusybox('busy', ...sleep);
    expect(await store.loopbox(['rm', 'busy'])).toMatchObject({
      code: 11,
      stderr: expect.stringContaining('it is running\nhint: loopbox stop busy'),
    });
    expect(await store.done('rm', '--force', 'busy')).toBe('busy');
    expect(await store.loopbox(['rm', '-f', 'busy'])).toMatchObject({ code: 10 });
  });
});

describe('export and import', () => {
  it('make one sparse file, or a stream of the same bytes, of a stopped container, and a container of it', async () => {
    await store.createBusybox('web', '--full', '-e', 'A=1', '--memory', '64M', ...sleep);
    const file = join(place, 'web.raw');
    expect(await store.done('export', 'web', file)).toBe(`${file}: 128 MiB`);
    expect(Number(await shell('du', '-k', file).then((line) => line.split('\t')[0]))).toBeLessThan(16 * 1024);
    await shell('e2fsck', '-fn', file);
    const streamed = join(place, 'streamed.raw');
    await shell(
      'sh',
      '-c',
      `"$0" export web - > ${streamed}`.replace('"$0"', `env LOOPBOX_ROOT=${store.root} LOOPBOX_RUN_ROOT=${store.runRoot} "$0"`),
      program,
    );
    await shell('cmp', '-n', String(128 * MiB), file, streamed);
    for (const [path, name] of [
      [file, 'from-file'],
      [streamed, 'from-stream'],
    ] as const) {
      expect(await store.done('import', path, name)).toBe(`${name}: 128 MiB`);
      expect(await store.inspect(name)).toMatchObject({
        state: 'created',
        config: { environment: { A: '1' }, limits: { memoryBytes: 64 * MiB } },
      });
    }
    const ids = await Promise.all(
      ['web', 'from-file', 'from-stream', file, streamed].map(async (name) => (await store.inspect(name)).containerId),
    );
    expect(new Set(ids).size).toBe(5);

    expect(await store.loopbox(['export', 'web', file])).toMatchObject({ code: 11, stderr: expect.stringContaining('--force') });
    expect(await store.done('export', '-q', '--force', 'web', file)).toBe(file);
    expect(await store.loopbox(['export', '-f', 'web', place])).toMatchObject({
      code: 15,
      stderr: expect.stringContaining('not a regular file'),
    });
    expect(await store.loopbox(['import', file])).toMatchObject({ code: 11 });
    await store.done('rm', 'web');
    expect(await store.done('import', '-q', file)).toBe('web');
    await store.done('rm', 'web', 'from-file', 'from-stream');
  });

  it('--force replaces no file that is in use: neither a running container, nor the one that is exported', async () => {
    await store.createBusybox('web', ...sleep);
    const before = await checksum(store.fileOf('web'));
    const [box, web] = [store.fileOf('box'), store.fileOf('web')];
    for (const path of [box, web]) {
      expect(await store.loopbox(['export', '--force', 'web', path])).toMatchObject({
        code: 11,
        stderr: expect.stringContaining('its file is in use'),
      });
    }
    expect(await store.loopbox(['export', '--force', web, web])).toMatchObject({ code: 11 });
    expect(await checksum(web)).toBe(before);
    expect(await store.done('exec', 'box', 'echo', 'alive')).toBe('alive');
    await store.done('rm', 'web');
  });
});

describe('a FILE', () => {
  it('does for every verb that a name does', async () => {
    const file = await exportSleeper(store, place, 'byfile', '-e', 'COLOR=green');
    await mkdir(join(place, 'sub'));
    await symlink(file, join(place, 'sub/link'));
    const relative = (args: string[]) => store.loopbox(args, { cwd: join(place, 'sub') });
    expect(await relative(['start', './link'])).toMatchObject({ code: 0, stdout: './link\n' });
    expect(await store.done('ls')).toMatch(new RegExp(`^${join(place, 'sub/link')} +running +\\d+ `, 'm'));
    expect(await store.loopbox(['start', file])).toMatchObject({ code: 11 });
    expect(await relative(['exec', '../byfile.img', 'sh', '-c', 'echo $COLOR $(hostname)'])).toMatchObject({ stdout: 'green byfile\n' });
    expect((await store.loopbox(['enter', file], { input: 'echo here\n' })).stdout).toBe('here\n');
    expect(await store.inspect(file)).toMatchObject({ state: 'running', files: [file] });
    expect(await store.done('set', file, '--pids', '77', '-e', 'COLOR=blue')).toBe('pids: changed now\nenv: at next start');
    await store.done('restart', '-t', '0', file);
    expect(await store.done('exec', file, 'sh', '-c', 'echo $COLOR')).toBe('blue');
    await store.done('kill', file);
    expect(await store.done('wait', file)).toBe('137');
    expect(await store.done('logs', file)).toBe('');
    expect(await store.done('stop', file)).toBe(file);
    expect(await store.done('ps', '-q')).toBe('box');
    await store.done('export', file, join(place, 'again.img'));
    await store.done('template', 'create', 'byfile', '--from', file);
    await store.done('import', file, 'imported');
    expect(await store.inspect('imported')).toMatchObject({ limits: { pids: 77 }, config: { environment: { COLOR: 'blue' } } });
    await store.done('rm', 'imported');
    await store.done('template', 'rm', 'byfile');
    for (const args of [
      ['rename', file, 'x'],
      ['rm', file],
      ['rm', '-f', file],
    ]) {
      expect(await store.loopbox(args), args.join(' ')).toMatchObject({
        code: 2,
        stderr: expect.stringContaining(`hint: loopbox import ${file}`),
      });
    }
    for (const verb of ['start', 'stop', 'inspect', 'logs', 'wait']) expect((await store.loopbox([verb, './nope'])).code, verb).toBe(10);
  });

  it('with a command of its own for one run keeps its config', async () => {
    const file = await exportSleeper(store, place, 'config', '-e', 'COLOR=green', '--pids', '50');
    expect(await store.done('run', file, '-e', 'COLOR=red', '--pids', '60', '--', 'sh', '-c', 'echo $COLOR')).toBe('red');
    expect((await store.inspect(file)).config).toMatchObject({
      command: ['sleep', '1000'],
      environment: { COLOR: 'green' },
      limits: { pids: 50 },
    });
  });
});
