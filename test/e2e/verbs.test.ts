import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { mkdir, symlink } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { verbs } from '../../src/cli/verbs';
import type { StoreUsage } from '../../src/container/disk-usage';
import { MiB } from '../../src/units';
import { busyboxTar, execute, shell, TestStore, temporaryDirectory } from '../fixtures';
import { checksum, uuidOf, withStockMount } from '../image-view';

const program = join(import.meta.dirname, '../../bin/loopbox');
const sleep = ['--', 'sleep', '1000'];

let store: TestStore;
let place: string;

beforeAll(async () => {
  store = await TestStore.create();
  place = await temporaryDirectory();
  await store.importBusybox('busybox', '--size', '128M');
  await store.done('run', '-d', '--template', 'busybox', 'box', '-e', 'COLOR=green', '-w', '/tmp', ...sleep);
});

const create = (name: string, ...args: string[]) => store.done('create', name, '--template', 'busybox', ...args);
const run = (name: string, ...args: string[]) => store.done('run', '-d', '--template', 'busybox', name, ...args);
const json = async (...args: string[]) => JSON.parse(await store.done(...args, '--format', 'json')) as unknown;
const stateOf = async (name: string) => (await store.inspect(name)).state;
/** The file of a stopped container, outside of the store. */
async function exported(name: string, ...flags: string[]): Promise<string> {
  const file = join(place, `${name}.img`);
  await create(name, ...flags);
  await store.done('export', name, file);
  await store.done('rm', name);
  return file;
}

describe('template', () => {
  it.each([
    ['plain', 'cat'],
    ['gzip', 'gzip'],
    ['xz', 'xz', '-0'],
    ['zstd', 'zstd', '-q'],
  ])('import takes a %s tar, from a file and from standard input', async (name, ...compressor) => {
    const tar = join(place, `tar.${name}`);
    await shell('sh', '-c', '"$@" < "$0" > "$OUT"'.replace('$OUT', tar), await busyboxTar(), ...compressor);
    expect(await store.done('template', 'import', `from-${name}`, tar, '--size', '64M')).toMatch(
      /^from-\w+: 128 MiB, [\d.]+ MiB on the host$/,
    );
    const piped = await store.loopbox(['template', 'import', '-q', `piped:${name}`, '-', '--size', '100M'], { input: readFileSync(tar) });
    expect(piped).toMatchObject({ code: 0, stdout: `piped:${name}\n`, stderr: '' });
    expect(await store.done('run', '--rm', '--template', `piped:${name}`, '--', 'cat', '/etc/hostname')).toMatch(/^piped-[0-9a-f]{8}$/);
    await store.done('template', 'rm', `from-${name}`, `piped:${name}`);
  });

  it('import takes a raw ext4 image, whose init is the default command', async () => {
    const image = await rawImage();
    const before = await checksum(image);
    await store.done('template', 'import', 'raw', image, '--size', '200M');
    expect(await checksum(image)).toBe(before);
    expect(await json('template', 'inspect', 'raw')).toMatchObject({ sizeBytes: 256 * MiB, config: { environment: {}, limits: {} } });
    await store.done('run', '-d', '--template', 'raw', 'rawbox');
    expect(await store.done('exec', 'rawbox', 'cat', '/proc/1/cmdline')).toContain('/sbin/init');
    await store.done('rm', '-f', 'rawbox');
    await store.done('template', 'rm', 'raw');
  });

  it('import keeps a config, which its containers start from', async () => {
    const flags = [
      '--size',
      '128M',
      '-e',
      'COLOR=red',
      '--env',
      'SIZE=big',
      '--workdir',
      '/tmp',
      '--user',
      'alice',
      '--label',
      'tier=back',
    ];
    await store.done('template', 'import', 'conf:1.0_A-b', await busyboxTar(), ...flags, '--cmd', 'echo $COLOR $SIZE $(id -un) $(pwd)');
    await store.done('template', 'import', 'conf:list', await busyboxTar(), '--size', '128M', '--cmd', '["echo", "a b", "c"]');
    expect(await json('template', 'inspect', 'conf:1.0_A-b', 'conf:list')).toMatchObject([
      {
        name: 'conf:1.0_A-b',
        sizeBytes: 128 * MiB,
        config: { environment: { COLOR: 'red', SIZE: 'big' }, workdir: '/tmp', user: 'alice', labels: { tier: 'back' } },
      },
      { config: { command: ['echo', 'a b', 'c'] } },
    ]);
    expect(await store.done('template', 'inspect', 'conf:1.0_A-b')).toMatch(/^Command: +\/bin\/sh -c echo \$COLOR \$SIZE/m);
    expect(await store.done('run', '--rm', '--template', 'conf:1.0_A-b')).toBe('red big alice /tmp');
    expect(await store.done('run', '--rm', '--template', 'conf:1.0_A-b', '-e', 'COLOR=blue', '-e', 'SIZE-', '-u', 'root')).toBe(
      'blue root /tmp',
    );
    expect(await store.done('run', '--rm', '--template', 'conf:list')).toBe('a b c');
    await store.done('template', 'rm', 'conf:1.0_A-b', 'conf:list');
  });

  it('ls prints what --template takes', async () => {
    await store.done('template', 'import', 'second:v2', await busyboxTar(), '--size', '256M');
    expect((await store.done('template', 'ls', '-q')).split('\n')).toEqual(['busybox', 'second:v2']);
    expect(await store.done('template', 'ls')).toMatch(
      /^NAME +SIZE +OWN +CREATED\nbusybox +128 MiB +[\d.]+ MiB +20.*Z\nsecond:v2 +256 MiB /,
    );
    expect(await json('template', 'ls')).toMatchObject([{ name: 'busybox' }, { name: 'second:v2', sizeBytes: 256 * MiB }]);
    await create('versioned', '--start', '--template', 'second:v2', ...sleep);
    expect(await store.inspect('versioned')).toMatchObject({ state: 'running', template: 'second:v2' });
    expect(await store.done('template', 'rm', 'second:v2')).toBe('second:v2');
    await store.done('rm', '-f', 'versioned');
  });

  it('create makes one of a stopped container, says what it cleaned, and its containers have an identity of their own', async () => {
    await run('golden', '-e', 'COLOR=gold', '--hostname', 'golden-host', '--memory', '64M', ...sleep);
    const keep =
      'mkdir -p /etc/ssh && echo k > /etc/ssh/ssh_host_rsa_key && echo p > /etc/ssh/ssh_host_rsa_key.pub && echo c > /etc/ssh/sshd_config';
    await store.done(
      'exec',
      'golden',
      'sh',
      '-c',
      `${keep}; echo 0123456789abcdef0123456789abcdef > /etc/machine-id; echo mine > /root/data`,
    );
    expect(await store.loopbox(['template', 'create', 'gold:1', '--from', 'golden'])).toMatchObject({ code: 11, stdout: '' });
    await store.done('stop', '-t', '0', 'golden');
    const said = (await store.done('template', 'create', 'gold:1', '--from', 'golden')).split('\n');
    expect(said[0]).toMatch(/^gold:1: 128 MiB, [\d.]+ MiB on the host$/);
    expect(said.slice(1)).toEqual([
      'cleaned /etc/machine-id',
      'cleaned /etc/ssh/ssh_host_rsa_key',
      'cleaned /etc/ssh/ssh_host_rsa_key.pub',
      'cleaned /etc/hostname',
    ]);
    for (const name of ['gold1', 'gold2']) {
      await create(name, '--template', 'gold:1');
      expect(
        await store.done(
          'run',
          '--ephemeral',
          store.imageOf(name),
          '--',
          'sh',
          '-c',
          'hostname; cat /etc/hostname /etc/machine-id /root/data; ls /etc/ssh; echo $COLOR',
        ),
      ).toBe(`${name}\n${name}\nmine\nsshd_config\ngold`);
    }
    const ids = await Promise.all(['golden', 'gold1', 'gold2'].map(async (name) => (await store.inspect(name)).containerId));
    expect(new Set(ids).size).toBe(3);
    expect(new Set(['golden', 'gold1', 'gold2'].map((name) => uuidOf(store.imageOf(name)))).size).toBe(3);
    expect((await store.inspect('gold1')).limits).toEqual({ memoryBytes: 64 * MiB });
    // The container that it was made of has lost nothing.
    expect(
      await store.done('run', '--ephemeral', store.imageOf('golden'), '--', 'sh', '-c', 'hostname; cat /etc/machine-id; ls /etc/ssh'),
    ).toContain('golden-host\n0123456789abcdef0123456789abcdef\nssh_host_rsa_key\n');
    await store.done('rm', 'golden', 'gold1', 'gold2');
    await store.done('template', 'rm', 'gold:1');
  });
});

describe('create', () => {
  it('takes a size, a config and --start, and says what it made', async () => {
    const flags = ['--size', '200M', '--memory', '64M', '--cpus', '1.5', '--pids', '50', '--hostname', 'h-1', '-e', 'A=1', '-e', 'B=x=y'];
    expect(await create('full', ...flags, '-w', '/tmp', '-u', 'alice:staff', '--label', 'a=b', '--start', ...sleep)).toBe(
      'full: 256 MiB, copied from busybox',
    );
    expect(await store.inspect('full')).toMatchObject({
      name: 'full',
      state: 'running',
      sizeBytes: 256 * MiB,
      template: 'busybox',
      files: [store.imageOf('full')],
      limits: { memoryBytes: 64 * MiB, cpus: 1.5, pids: 50 },
      config: {
        command: ['sleep', '1000'],
        workdir: '/tmp',
        user: 'alice:staff',
        hostname: 'h-1',
        environment: { A: '1', B: 'x=y' },
        labels: { a: 'b' },
      },
    });
    expect(await store.done('exec', 'full', 'sh', '-c', 'echo $A $B $HOME $HOSTNAME $(id -un):$(id -gn) $(pwd)')).toBe(
      '1 x=y /home/alice h-1 alice:staff /tmp',
    );
    await store.done('rm', '-f', 'full');
    expect(await create('quiet', '-q')).toBe('quiet');
    expect(await stateOf('quiet')).toBe('created');
    await store.done('rm', 'quiet');
  });

  it('refuses all that is wrong with its flags at once, and leaves nothing', async () => {
    const wrong = [
      '--memory',
      '5',
      '--cpus',
      '0',
      '--pids',
      'many',
      '--hostname',
      '-',
      '-e',
      'A',
      '-w',
      'tmp',
      '-u',
      'a b',
      '--label',
      'x',
    ];
    const result = await store.loopbox(['create', 'wrong', '--template', 'busybox', ...wrong]);
    expect(result).toMatchObject({ code: 2, stdout: '' });
    for (const flag of ['memory', 'cpus', 'pids', 'hostname', 'env', 'workdir', 'user', 'label'])
      expect(result.stderr).toContain(`--${flag} "`);
    for (const [args, code] of [
      [['create', 'box', '--template', 'busybox'], 11],
      [['create', 'wrong', '--template', 'nope'], 10],
      [['create', 'wrong', '--template', 'busybox', '--size', '127M'], 2],
      [['create', 'wrong', '--template', 'busybox', '--size', 'big'], 2],
      [['create', 'wrong', '--template', 'busybox', '--'], 2],
      [['create', 'wrong'], 2],
      [['create', 'Wrong', '--template', 'busybox'], 2],
      [['create', './wrong', '--template', 'busybox'], 2],
    ] as [string[], number][]) {
      expect(await store.loopbox(args), args.join(' ')).toMatchObject({
        code,
        stdout: '',
        stderr: expect.stringMatching(/^loopbox: Cannot .*\n(hint: .*\n)?$/),
      });
    }
    expect(existsSync(store.imageOf('wrong'))).toBe(false);
  });

  it('without a command and an init says what to type, and what was typed works', async () => {
    await create('bare');
    const { code, stderr } = await store.loopbox(['start', 'bare']);
    expect(code).toBe(2);
    expect(stderr).toContain('Cannot start "bare": it has no command and no /sbin/init\nhint: loopbox set bare -- CMD…\n');
    expect(await stateOf('bare')).toBe('created');
    await store.done('set', 'bare', ...sleep);
    await store.done('start', 'bare');
    await store.done('rm', '-f', 'bare');
  });
});

describe('start, stop, kill, restart and wait', () => {
  it('take several names, do what they can, and end with the first failure', async () => {
    await create('one', ...sleep);
    await create('two', ...sleep);
    expect(await store.done('start', 'one', 'two')).toBe('one\ntwo');
    const again = await store.loopbox(['start', 'one', 'nope', 'two']);
    expect(again).toMatchObject({
      code: 11,
      stdout: '',
      stderr: expect.stringContaining('Cannot start "one": it is running\nhint: loopbox stop one\n'),
    });
    expect(again.stderr).toContain('"nope": it does not exist');
    expect(again.stderr).toContain('"two": it is running');
    expect(await store.done('stop', '-t', '0', 'one', 'two')).toBe('one\ntwo');
    expect(await store.done('stop', 'one', 'two')).toBe('one\ntwo');
    expect(await store.loopbox(['rm', 'nope', 'one', 'two'])).toMatchObject({ code: 10 });
    expect(await store.done('ls', '-q')).toBe('box');
  });

  const obedient = ['--', 'sh', '-c', 'trap "echo term; exit 7" TERM; trap "echo hup" HUP; echo ready; while :; do sleep 0.05; done'];

  it('stop sends the stop signal and waits; what it asked for is no failure', async () => {
    await run('obedient', ...obedient);
    await expect.poll(() => store.done('logs', 'obedient')).toBe('ready');
    await store.done('stop', 'obedient');
    expect(await store.inspect('obedient')).toMatchObject({ state: 'stopped', exitCode: 7, pid: null });
    expect(await store.done('logs', 'obedient')).toBe('ready\nterm');
    expect(await store.done('wait', 'obedient')).toBe('7');
    await store.done('rm', 'obedient');
  });

  it('kill sends the signal that it is told, by any of its names, and KILL unless told', async () => {
    await run('kept', ...obedient);
    await expect.poll(() => store.done('logs', 'kept')).toBe('ready');
    for (const signal of ['HUP', 'SIGHUP', 'hup', '1']) await store.done('kill', '-s', signal, 'kept');
    await expect.poll(() => store.done('logs', 'kept')).toMatch(/^ready\nhup/);
    expect(await store.loopbox(['kill', '-s', 'NOPE', 'kept'])).toMatchObject({ code: 2, stdout: '' });
    const waiting = store.loopbox(['wait', 'kept']);
    expect(await store.done('kill', 'kept')).toBe('kept');
    expect(await waiting).toMatchObject({ code: 0, stdout: '137\n' });
    expect(await store.inspect('kept')).toMatchObject({ state: 'stopped', exitCode: 137, oomKilled: false });
    expect(await store.loopbox(['kill', 'kept'])).toMatchObject({ code: 11, stderr: expect.stringContaining('hint: loopbox start kept') });
    await store.done('rm', 'kept');
  });

  it('restart stops what runs and starts what does not', async () => {
    await create('again', ...sleep);
    expect(await store.done('restart', 'again')).toBe('again');
    const { pid } = await store.inspect('again');
    expect(await store.done('restart', '-t', '0', 'again')).toBe('again');
    expect(await store.inspect('again')).toMatchObject({ state: 'running', pid: expect.not.toSatisfy((other: number) => other === pid) });
    await store.done('rm', '-f', 'again');
  });

  it('an end that nobody asked for is a failure, told with its reason', async () => {
    await run('fails', '--', 'sh', '-c', 'exit 3');
    expect(await store.done('wait', 'fails')).toBe('3');
    expect(await store.done('ls')).toMatch(/^fails +failed \(exit 3\) +- /m);
    await store.done('set', 'fails', '--', 'sh', '-c', 'kill -9 $$; sleep 1; exec sleep 1000');
    await store.done('restart', 'fails');
    process.kill((await store.inspect('fails')).pid as number, 'SIGKILL');
    expect(await store.done('wait', 'fails')).toBe('137');
    expect(await store.inspect('fails')).toMatchObject({ state: 'failed', reason: 'killed by signal 9' });
    await store.done('set', 'fails', '--', 'true');
    await store.done('start', 'fails');
    expect(await store.done('wait', 'fails')).toBe('0');
    expect(await store.inspect('fails')).toMatchObject({ state: 'stopped', exitCode: 0 });
    await store.done('rm', 'fails');
  });
});

describe('run', () => {
  it("ends with the command's own code, and keeps the container", async () => {
    const result = await store.loopbox(['run', '--template', 'busybox', 'job', '--', 'sh', '-c', 'echo out; echo err >&2; exit 5']);
    expect(result).toMatchObject({ code: 5, stdout: 'out\n', stderr: 'err\n' });
    expect(await store.inspect('job')).toMatchObject({ state: 'failed', exitCode: 5 });
    expect(
      (await store.loopbox(['run', '--template', 'busybox', '--rm', '--', 'sh', '-c', 'kill -9 $$; kill -15 $$; exit 143'])).code,
    ).toBe(143);
    await store.done('rm', 'job');
  });

  it('--rm leaves nothing, in the foreground and detached, also of what can not be started', async () => {
    expect((await store.loopbox(['run', '--rm', '--template', 'busybox', 'gone', '--', 'sh', '-c', 'exit 4'])).code).toBe(4);
    expect((await store.loopbox(['run', '--rm', '--template', 'busybox', 'gone', '--', '/nope'])).code).toBe(127);
    await store.done('run', '--rm', '-d', '--template', 'busybox', 'gone', ...sleep);
    expect(await stateOf('gone')).toBe('running');
    await store.done('stop', '-t', '0', 'gone');
    await expect.poll(() => existsSync(store.imageOf('gone'))).toBe(false);
    expect(await store.done('ls', '-q')).toBe('box');
  });

  it('-i passes standard input, without it there is none', async () => {
    const echo = ['run', '--rm', '--template', 'busybox', '--', 'cat'];
    expect((await store.loopbox([...echo.slice(0, 1), '-i', ...echo.slice(1)], { input: 'a\0b\n' })).stdout).toBe('a\0b\n');
    expect((await store.loopbox(echo, { input: 'a\n' })).stdout).toBe('');
  });

  it.each([
    [['set', 'box'], 'nothing to change is given'],
    [['run'], 'neither a template nor a FILE is given'],
    [['run', 'box'], 'no template is given'],
    [['run', '--ephemeral', '--template', 'busybox', 'x'], '--ephemeral is for a FILE'],
    [['run', '--template', 'busybox', './x'], 'a FILE needs no template'],
    [['run', '--size', '1G', './x'], 'a FILE keeps its size'],
    [['run', '-t', '--template', 'busybox', 'x'], 'standard input is not a terminal'],
    [['exec', '-t', 'box', 'true'], 'standard input is not a terminal'],
    [['exec', 'box'], 'no command is given'],
    [['run', '--template', 'busybox', 'x', '--'], 'nothing follows "--"'],
  ])('%j is refused with what to type instead', async (args, state) => {
    expect(await store.loopbox(args)).toMatchObject({
      code: 2,
      stdout: '',
      stderr: expect.stringMatching(new RegExp(`^loopbox: Cannot .*${state}`)),
    });
  });

  it('without a command, of a template that has none, is refused with what to type', async () => {
    const result = await store.loopbox(['run', '--rm', '--template', 'busybox', 'none']);
    expect(result).toMatchObject({ code: 2, stderr: expect.stringContaining('no command and no /sbin/init') });
    expect(existsSync(store.imageOf('none'))).toBe(false);
  });
});

describe('exec and enter', () => {
  it('take all that follows the name as the command, but for a first --', async () => {
    expect(await store.done('exec', 'box', 'echo', '-n', '--', '-e', '--root', 'x')).toBe('-- -e --root x');
    expect(await store.done('exec', 'box', '--', 'echo', '--', 'a')).toBe('-- a');
    expect(await store.done('exec', 'box', 'ls', '--help', '-q').catch((error: Error) => error.message)).toContain('Usage: ls');
    expect(
      await store.done(
        'exec',
        '-e',
        'A=1',
        '-e',
        'COLOR=red',
        '-w',
        '/var',
        '-u',
        'alice',
        'box',
        'sh',
        '-c',
        'echo $A $COLOR $(pwd) $(id -un) $HOME',
      ),
    ).toBe('1 red /var alice /home/alice');
    expect(await store.done('exec', 'box', 'sh', '-c', 'echo $COLOR $(pwd) $(id -un)')).toBe('green /tmp root');
    expect(await store.done('exec', '-u', '1000:50', 'box', 'id')).toContain('uid=1000(alice) gid=50(staff)');
  });

  it("end with the command's own code; with 125, 126 and 127 as podman does", async () => {
    for (const [args, code] of [
      [['box', 'sh', '-c', 'exit 42'], 42],
      [['box', 'sh', '-c', 'exit 255'], 255],
      [['box', 'sh', '-c', 'kill -TERM $$'], 143],
      [['box', '/etc/passwd'], 126],
      [['box', '/etc'], 126],
      [['box', 'nope'], 127],
      [['box', '/bin/nope'], 127],
      [['nope', 'true'], 125],
      [['-w', '/nope', 'box', 'true'], 125],
      [['-u', 'nope', 'box', 'true'], 125],
      [['--nope', 'box', 'true'], 2],
      [['-e', 'A', 'box', 'true'], 2],
    ] as [string[], number][]) {
      expect((await store.loopbox(['exec', ...args])).code, args.join(' ')).toBe(code);
    }
    expect((await store.loopbox(['exec', '-w', '/nope', 'box', 'true'])).stderr).toBe(
      'loopbox: Cannot exec in "box": it has no directory "/nope"\n',
    );
    const failure = await store.loopbox(['--format', 'json', 'exec', 'nope', 'true']);
    expect(failure.code).toBe(125);
    expect(JSON.parse(failure.stderr)).toMatchObject({ error: { code: 'ERR_LOOPBOX_NOT_FOUND' } });
  });

  it('exec -i passes standard input, enter opens a shell', async () => {
    expect((await store.loopbox(['exec', '-i', 'box', 'cat'], { input: 'a\nb' })).stdout).toBe('a\nb');
    expect((await store.loopbox(['exec', 'box', 'cat'], { input: 'a\nb' })).stdout).toBe('');
    const entered = await store.loopbox(['enter', '-u', 'alice', '-e', 'A=1', 'box'], { input: 'echo $A $(id -un)\nexit 6\n' });
    expect(entered).toMatchObject({ code: 6, stdout: '1 alice\n' });
    expect((await store.loopbox(['enter', 'nope'])).code).toBe(125);
  });
});

describe('ls, ps and inspect', () => {
  beforeAll(async () => {
    await create('idle', ...sleep);
  });
  afterAll(() => store.done('rm', 'idle'));

  it('ls lists all, ps what runs, -a all, each as a table, as json, and with -q as names', async () => {
    expect(await store.done('ls')).toMatch(
      /^NAME +STATE +PID +SIZE +OWN +TEMPLATE\nbox +running +\d+ +128 MiB +[\d.]+ MiB +busybox\nidle +created +- +128 MiB +[\d.]+ MiB +busybox$/,
    );
    expect(await store.done('ps')).toMatch(/^NAME.*\nbox [^\n]*$/);
    expect(await store.done('ps', '-a')).toBe(await store.done('ls'));
    expect(await store.done('ls', '-q')).toBe('box\nidle');
    expect(await store.done('ps', '-q')).toBe('box');
    expect(await store.done('ps', '--all', '--quiet')).toBe('box\nidle');
    const list = (await json('ls')) as Record<string, unknown>[];
    expect(list.map(({ name, state }) => [name, state])).toEqual([
      ['box', 'running'],
      ['idle', 'created'],
    ]);
    expect(await json('ps')).toHaveLength(1);
  });

  it('inspect shows one container as an object with fixed keys, several as an array in their order', async () => {
    const one = await store.inspect('box');
    const keys = [
      'name',
      'state',
      'pid',
      'sizeBytes',
      'ownBytes',
      'template',
      'files',
      'limits',
      'exitCode',
      'oomKilled',
      'startedAt',
      'endedAt',
    ];
    expect(Object.keys(one)).toEqual(expect.arrayContaining(keys));
    expect(Object.keys(await store.inspect('idle'))).toEqual(expect.arrayContaining(keys));
    expect(one).toMatchObject({
      name: 'box',
      state: 'running',
      pid: expect.any(Number),
      sizeBytes: 128 * MiB,
      ownBytes: expect.any(Number),
      template: 'busybox',
      files: [store.imageOf('box')],
      limits: {},
      exitCode: null,
      oomKilled: false,
      endedAt: null,
      startedAt: expect.stringMatching(/^\d{4}-\d\d-\d\dT[\d:.]+Z$/),
    });
    expect(await store.inspect('idle')).toMatchObject({ state: 'created', pid: null, startedAt: null });
    expect(((await json('inspect', 'idle', 'box')) as { name: string }[]).map(({ name }) => name)).toEqual(['idle', 'box']);
    expect(await store.done('inspect', '-q', 'idle', 'box')).toBe('idle\nbox');
    expect(await store.done('inspect', 'box')).toMatch(/^Name: +box\nState: +running\nPid: +\d+\nFile: .*\nSize: +128 MiB\n/);
    expect(await store.loopbox(['inspect', 'box', 'nope'])).toMatchObject({ code: 10, stdout: '' });
  });
});

describe('logs', () => {
  it('shows what was written, the last lines of it, and goes on until the end', async () => {
    await run(
      'talks',
      '--',
      'sh',
      '-c',
      'for i in 1 2 3; do echo out $i; echo err $i >&2; done; until [ -e /tmp/go ]; do sleep 0.05; done; printf last; exit 1',
    );
    await expect.poll(async () => (await store.loopbox(['logs', 'talks'])).stderr).toBe('err 1\nerr 2\nerr 3\n');
    expect(await store.loopbox(['logs', 'talks'])).toMatchObject({ code: 0, stdout: 'out 1\nout 2\nout 3\n' });
    const last = await store.loopbox(['logs', '-n', '2', 'talks']);
    expect(`${last.stdout}${last.stderr}`.split('\n').filter(Boolean)).toHaveLength(2);
    expect(await store.done('logs', '-n', '0', 'talks')).toBe('');
    const following = store.loopbox(['logs', '-f', 'talks']);
    const since = store.loopbox(['logs', '--follow', '--lines', '0', 'talks']);
    await store.done('exec', 'talks', 'touch', '/tmp/go');
    expect(await following).toMatchObject({ code: 0, stdout: 'out 1\nout 2\nout 3\nlast' });
    expect((await since).code).toBe(0);
    const lines = (await store.done('logs', '--format', 'json', 'talks')).split('\n').map((line) => JSON.parse(line) as object);
    expect(lines).toHaveLength(7);
    expect(lines[0]).toMatchObject({
      stream: expect.stringMatching(/^std(out|err)$/),
      text: expect.stringMatching(/^(out|err) 1$/),
      time: expect.any(String),
    });
    expect(await store.loopbox(['logs', '-n', 'x', 'talks'])).toMatchObject({ code: 2 });
    await store.done('rm', 'talks');
    expect(await store.loopbox(['logs', 'talks'])).toMatchObject({ code: 10 });
  });
});

describe('set and rename', () => {
  it('set keeps what it is not told, adds, changes and removes', async () => {
    await create('config', '-e', 'A=1', '-e', 'B=2', '--label', 'x=1', '--memory', '64M', ...sleep);
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
    const image = await rawImage();
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
    await run('old', '--', 'sh', '-c', 'echo said; exit 3');
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
    await run('busy', ...sleep);
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
    await create('web', '-e', 'A=1', '--memory', '64M', ...sleep);
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
    expect(await store.loopbox(['export', 'box', join(place, 'box.raw')])).toMatchObject({ code: 11 });
    expect(await store.loopbox(['import', file])).toMatchObject({ code: 11 });
    await store.done('rm', 'web');
    expect(await store.done('import', '-q', file)).toBe('web');
    await store.done('rm', 'web', 'from-file', 'from-stream');
  });

  it('--force replaces no file that is in use: neither a running container, nor the one that is exported', async () => {
    await create('web', ...sleep);
    const before = await checksum(store.imageOf('web'));
    const [box, web] = [store.imageOf('box'), store.imageOf('web')];
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

describe('df and info', () => {
  it('df counts per container and template, and for the store', async () => {
    await create('small', '--size', '256M', ...sleep);
    await store.done('exec', 'box', 'dd', 'if=/dev/urandom', 'of=/root/big', 'bs=1M', 'count=20');
    const { containers, templates, store: whole } = (await json('df')) as StoreUsage;
    const usageOf = (name: string) => containers.find((entry) => entry.name === name) ?? expect.fail(`df lacks ${name}`);
    const [box, small] = [usageOf('box'), usageOf('small')];
    expect(small.sizeBytes).toBe(256 * MiB);
    expect(templates).toMatchObject([{ name: 'busybox' }]);
    expect(whole).toMatchObject({ path: store.root, promisedBytes: 512 * MiB });
    const inside = Number((await store.done('exec', 'box', 'df', '-k', '/')).split('\n')[1]?.split(/ +/)[2]) * 1024;
    expect(Math.abs(box.usedBytes - inside)).toBeLessThan(MiB);
    expect(inside - small.usedBytes).toBeGreaterThan(19 * MiB);
    // A stopped one is read from its superblock: the same as it tells when it runs.
    await store.done('start', 'small');
    const running = ((await json('df')) as StoreUsage).containers.find(({ name }) => name === 'small');
    expect(Math.abs((running?.usedBytes ?? 0) - small.usedBytes)).toBeLessThan(MiB / 2);
    expect(await store.done('df')).toMatch(
      /^NAME +KIND +SIZE +USED +OWN\nbox +container .*\nsmall +container .*\nbusybox +template .*\n\n\/.*: [\d.]+ [GT]iB free of [\d.]+ [GT]iB, 512 MiB promised$/,
    );
    expect(await store.done('df', '-q')).toBe('box\nsmall\nbusybox');
    await store.done('rm', '-f', 'small');
  });

  it('info tells what the host offers', async () => {
    expect(await json('info')).toMatchObject({
      kernel: await shell('uname', '-r'),
      root: store.root,
      runRoot: store.runRoot,
      reflink: expect.any(Boolean),
      cgroup: expect.stringMatching(/^(v1|v2|hybrid)$/),
      runtimes: expect.arrayContaining([expect.objectContaining({ name: 'runc', default: true })]),
      loops: expect.any(Object),
    });
    expect(await store.done('info')).toMatch(/^loopbox: .*\nKernel: .*\nRoot: .*reflink.*\nRun root: .*\nCgroups: .*\nRuntime: .*runc/);
  });
});

describe('a FILE', () => {
  it('does for every verb that a name does', async () => {
    const file = await exported('byfile', '-e', 'COLOR=green', ...sleep);
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
    const file = await exported('config', '-e', 'COLOR=green', '--pids', '50', ...sleep);
    expect(await store.done('run', file, '-e', 'COLOR=red', '--pids', '60', '--', 'sh', '-c', 'echo $COLOR')).toBe('red');
    expect((await store.inspect(file)).config).toMatchObject({
      command: ['sleep', '1000'],
      environment: { COLOR: 'green' },
      limits: { pids: 50 },
    });
  });
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
    await create('other', ...sleep);
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
    const file = await exported('twin', ...sleep);
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
    expect(await stateOf('twin')).toBe('running');
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

describe('output', () => {
  it('that nobody reads on ends quietly', async () => {
    for (const args of ['ls', 'ls --format json', '--help', 'inspect box', 'info', 'template ls']) {
      const pipe = await execute('bash', ['-c', `"$0" ${args} | true; echo "\${PIPESTATUS[0]}"`, program], { env: store.environment });
      expect(pipe, args).toMatchObject({ stdout: '0\n', stderr: '' });
    }
  });

  it('--progress plain tells of a copy on standard error; without a terminal nothing else does', async () => {
    const copy = async (...flags: string[]) => {
      const result = await store.loopbox(['create', 'copied', '--template', 'busybox', ...flags]);
      expect(result).toMatchObject({ code: 0, stdout: 'copied: 128 MiB, copied from busybox\n' });
      await store.done('rm', 'copied');
      return result.stderr;
    };
    expect(await copy()).toBe('');
    expect(await copy('--progress', 'none')).toBe('');
    expect(await copy('--progress', 'plain')).toMatch(
      /^(copying [\d.]+ [KM]iB of 128 MiB \(\d+%\).*\n)*copying 128 MiB of 128 MiB \(100%\)(, .*)?\n$/,
    );
  });

  it('of import tells how much of the source is read', async () => {
    const tar = join(place, 'big.tar');
    writeFileSync(join(place, 'big'), Buffer.alloc(64 * MiB, 'x'));
    await shell('tar', '-C', place, '-cf', tar, 'big');
    rmSync(join(place, 'big'));
    const result = await store.loopbox(['template', 'import', '--progress', 'plain', '--size', '256M', 'big', tar]);
    expect(result).toMatchObject({ code: 0, stderr: expect.stringMatching(/\(100%\)/) });
    await store.done('template', 'rm', 'big');
  });
});

/** An ext4 image as any tool makes it: no manifest, its own inode and block sizes, with an init. */
async function rawImage(): Promise<string> {
  const image = join(place, 'raw.img');
  if (existsSync(image)) return image;
  const root = join(place, 'rawroot');
  await mkdir(root);
  await shell('tar', '-C', root, '-xf', await busyboxTar());
  writeFileSync(join(root, 'sbin/init'), '#!/bin/sh\nwhile :; do sleep 1000; done\n', { mode: 0o755 });
  await shell('truncate', '-s', '64M', image);
  await shell('mkfs.ext4', '-q', '-F', '-b', '1024', '-d', root, image);
  expect(await withStockMount(image, async (directory) => existsSync(join(directory, 'sbin/init')))).toBe(true);
  rmSync(root, { recursive: true });
  return image;
}
