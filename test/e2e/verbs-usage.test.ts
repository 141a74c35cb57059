import { readFileSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { verbs } from '../../src/cli/verbs';
import { execute, program, shell, type TestStore, temporaryDirectory } from '../fixtures';
import { exportSleeper, sleep, storeWithSleeper } from '../sleeper';

let store: TestStore;
let place: string;

beforeAll(async () => {
  store = await storeWithSleeper('box', '--start');
  place = await temporaryDirectory();
});

describe('global flags', () => {
  it('stand before the verb or after it, and win over the environment', async () => {
    const root = join(place, 'other-root');
    const names = async (args: string[], env: Record<string, string> = {}) => (await store.loopbox(args, { env })).stdout.trim();
    expect(await names(['--root', root, 'ls', '-q'])).toBe('');
    expect(await names(['ls', '--root', root, '-q'])).toBe('');
    expect(await names([`--root=${root}`, '-q', 'ls'])).toBe('');
    expect(await names(['-q', 'ls'])).toBe(await names(['ls', '-q']));
    expect(await names(['--root', root, 'ls', '-q', '--root', store.root])).toContain('box');
    expect(await names(['ls', '-q', '--root', store.root], { LOOPBOX_ROOT: root })).toContain('box');
    expect(await names(['ls', '-q'], { LOOPBOX_ROOT: root })).toBe('');
    expect(JSON.parse(await names(['--format', 'json', 'template', 'ls']))).toMatchObject([{ name: 'busybox' }]);
    expect(JSON.parse(await names(['template', '--format', 'json', 'ls']))).toMatchObject([{ name: 'busybox' }]);
    // After the name of exec's container all is the command's.
    expect(await store.done('exec', '--root', store.root, 'box', 'echo', '--root', 'x')).toBe('--root x');
  });

  it('--runtime and LOOPBOX_RUNTIME choose the runtime; one that is not there is not supported', async () => {
    await store.createBusybox('other', ...sleep);
    for (const [args, env] of [
      [['--runtime', 'nope', 'start', 'other'], {}],
      [['start', 'other', '--runtime', '/nope/runc'], {}],
      [['start', 'other'], { LOOPBOX_RUNTIME: 'nope' }],
    ] as [string[], Record<string, string>][]) {
      expect(await store.loopbox(args, { env })).toMatchObject({ code: 15, stdout: '', stderr: expect.stringContaining('nope') });
    }
    await store.done('start', 'other', '--runtime', await shell('sh', '-c', 'command -v runc'));
    // What runs is the business of the runtime that it was started by.
    expect((await store.loopbox(['exec', 'other', 'true'], { env: { LOOPBOX_RUNTIME: 'nope' } })).code).toBe(0);
    await store.done('rm', '-f', 'other');
  });

  it('of two roots, with the same run root, the containers of one name never meet', async () => {
    const root = join(place, 'second-root');
    const second = (...args: string[]) => store.done(...args, '--root', root);
    await mkdir(join(root, 'containers'), { recursive: true });
    const file = await exportSleeper(store, place, 'twin');
    await shell('cp', file, join(root, 'containers/twin.img'));
    await store.done('import', file, 'twin');
    await store.done('start', 'twin');
    expect(await second('ls')).toMatch(/^twin +created /m);
    await second('start', 'twin');
    const pids = [
      (await store.inspect('twin')).pid,
      (JSON.parse(await second('inspect', 'twin', '--format', 'json')) as { pid: number }).pid,
    ];
    expect(pids[0]).not.toBe(pids[1]);
    const cgroups = pids.map((pid) => readFileSync(`/proc/${pid as number}/cgroup`, 'utf8'));
    expect(cgroups[0]).not.toBe(cgroups[1]);
    await second('stop', '-t', '0', 'twin');
    expect(await store.inspect('twin')).toMatchObject({ state: 'running' });
    expect(await second('logs', 'twin')).toBe('');
    await second('rm', 'twin');
    expect(await store.done('exec', 'twin', 'echo', 'alive')).toBe('alive');
    await store.done('rm', '-f', 'twin');
    expect(await second('ls', '-q')).toBe('');
  });

  it('--help of each verb shows its usage, --version of each the version', async () => {
    const templates = ['import', 'create', 'ls', 'inspect', 'rm'].map((verb) => ['template', verb]);
    for (const verb of [...Object.keys(verbs).map((name) => [name]), ...templates]) {
      const help = await store.loopbox([...verb, '--help']);
      expect(help, verb.join(' ')).toMatchObject({
        code: 0,
        stderr: '',
        stdout: expect.stringMatching(new RegExp(`^Usage: loopbox ${verb.join(' ')} `)),
      });
    }
    const version = `loopbox ${(JSON.parse(readFileSync(join(import.meta.dirname, '../../package.json'), 'utf8')) as { version: string }).version}\n`;
    for (const args of [['--version'], ['--version', 'ls'], ['ls', '--version'], ['template', 'rm', '--version']]) {
      expect(await store.loopbox(args), args.join(' ')).toMatchObject({ code: 0, stdout: version, stderr: '' });
    }
    expect((await store.loopbox(['--help'])).stdout).toMatch(/^Usage: loopbox /);
  });
});

describe('mistakes', () => {
  it.each([
    [[], 2],
    [['nope'], 2],
    [['template'], 2],
    [['template', 'nope'], 2],
    [['ls', '--nope'], 2],
    [['ls', 'box'], 2],
    [['ls', '--', 'true'], 2],
    [['start'], 2],
    [['start', 'No'], 2],
    [['rename', 'box'], 2],
    [['--format', 'xml', 'ls'], 2],
    [['--progress', 'x', 'ls'], 2],
    [['stop', '-t', 'soon', 'box'], 2],
    [['template', 'import', 'x:', 'y'], 2],
    [['template', 'import', 'x', 'y', '--cmd', '["a", 1]'], 2],
    [['start', 'nope'], 10],
    [['template', 'rm', 'nope'], 10],
    [['template', 'inspect', 'nope'], 10],
    [['template', 'import', 'x', '/nope.tar'], 10],
    [['template', 'create', 'x', '--from', 'nope'], 10],
    [['import', '/nope.img'], 10],
    [['start', 'box'], 11],
    [['template', 'import', 'busybox', '/nope.tar'], 11],
    [['import', '/etc/passwd', 'x'], 13],
    [['inspect', '/dev/null'], 15],
    [['run', '/etc/passwd'], 125],
  ] as [string[], number][])('%j ends with %i, in words and as json', async (args, code) => {
    const plain = await store.loopbox(args);
    expect(plain).toMatchObject({ code, stdout: '' });
    expect(plain.stderr).toMatch(/loopbox: Cannot .*[^.]\n(hint: .*\n)?$/);
    if (args.length === 0 || args.includes('xml')) return;
    const told = await store.loopbox(['--format', 'json', ...args]);
    expect(told).toMatchObject({ code, stdout: '' });
    const { error } = JSON.parse(told.stderr.slice(told.stderr.indexOf('{"error"'))) as { error: { code: string; message: string } };
    expect(plain.stderr).toContain(`loopbox: ${error.message}\n`);
    expect(error.code).toMatch(/^ERR_LOOPBOX_[A-Z_]+$/);
  });

  it('show where they come from with --verbose', async () => {
    expect((await store.loopbox(['import', '/nope.img'])).stderr).not.toContain('    at ');
    expect((await store.loopbox(['--verbose', 'import', '/nope.img'])).stderr).toMatch(
      /^loopbox: Cannot .*\n(hint: .*\n)?LoopboxError: [^]*\n {4}at [^]*caused by: /,
    );
  });

  it('of anybody but root are told as such', async () => {
    const result = await execute('setpriv', ['--reuid', '65534', '--regid', '65534', '--clear-groups', program, 'ls']);
    expect(result).toMatchObject({ code: 12, stdout: '', stderr: expect.stringContaining('it needs root\nhint: sudo') });
  });
});
