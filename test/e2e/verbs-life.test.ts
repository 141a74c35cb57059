import { existsSync } from 'node:fs';
import { beforeAll, describe, expect, it } from 'vitest';
import { MiB } from '../../src/units';
import type { TestStore } from '../fixtures';
import { sleep, storeWithSleeper } from '../sleeper';

let store: TestStore;

beforeAll(async () => {
  store = await storeWithSleeper('box', '--start', '-e', 'COLOR=green', '-w', '/tmp');
});

describe('create', () => {
  it('takes a size, a config and --start, and says what it made', async () => {
    const flags = [
      '--full',
      '--size',
      '200M',
      '--memory',
      '64M',
      '--cpus',
      '1.5',
      '--pids',
      '50',
      '--hostname',
      'h-1',
      '-e',
      'A=1',
      '-e',
      'B=x=y',
    ];
    expect(await store.createBusybox('full', ...flags, '-w', '/tmp', '-u', 'alice:staff', '--label', 'a=b', '--start', ...sleep)).toBe(
      'full: 256 MiB, copied from busybox; attach: stack',
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
    expect(await store.createBusybox('quiet', '-q')).toBe('quiet');
    expect(await store.inspect('quiet')).toMatchObject({ state: 'created' });
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
    expect(existsSync(store.fileOf('wrong'))).toBe(false);
  });

  it('without a command and an init says what to type, and what was typed works', async () => {
    await store.createBusybox('bare');
    const { code, stderr } = await store.loopbox(['start', 'bare']);
    expect(code).toBe(2);
    expect(stderr).toContain('Cannot start "bare": it has no command and no /sbin/init\nhint: loopbox set bare -- CMD…\n');
    expect(await store.inspect('bare')).toMatchObject({ state: 'created' });
    await store.done('set', 'bare', ...sleep);
    await store.done('start', 'bare');
    await store.done('rm', '-f', 'bare');
  });
});

describe('start, stop, kill, restart and wait', () => {
  it('take several names, do what they can, and end with the first failure', async () => {
    await store.createBusybox('one', ...sleep);
    await store.createBusybox('two', ...sleep);
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
    await store.runBusybox('obedient', ...obedient);
    await expect.poll(() => store.done('logs', 'obedient')).toBe('ready');
    await store.done('stop', 'obedient');
    expect(await store.inspect('obedient')).toMatchObject({ state: 'stopped', exitCode: 7, pid: null });
    expect(await store.done('logs', 'obedient')).toBe('ready\nterm');
    expect(await store.done('wait', 'obedient')).toBe('7');
    await store.done('rm', 'obedient');
  });

  it('kill sends the signal that it is told, by any of its names, and KILL unless told', async () => {
    await store.runBusybox('kept', ...obedient);
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
    await store.createBusybox('again', ...sleep);
    expect(await store.done('restart', 'again')).toBe('again');
    const { pid } = await store.inspect('again');
    expect(await store.done('restart', '-t', '0', 'again')).toBe('again');
    expect(await store.inspect('again')).toMatchObject({ state: 'running', pid: expect.not.toSatisfy((other: number) => other === pid) });
    await store.done('rm', '-f', 'again');
  });

  it('an end that nobody asked for is a failure, told with its reason', async () => {
    await store.runBusybox('fails', '--', 'sh', '-c', 'exit 3');
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
  it('takes what create takes of how the container is made and attached', async () => {
    for (const [flag, file] of [
      ['--full', 'img'],
      ['--linked', 'delta'],
    ] as const) {
      await store.done('run', '-d', '--template', 'busybox', flag, '--attach', 'stack', 'made', ...sleep);
      expect(await store.inspect('made')).toMatchObject({
        state: 'running',
        files: expect.arrayContaining([expect.stringMatching(`made\\.${file}$`)]),
      });
      await store.done('rm', '-f', 'made');
    }
    for (const flags of [['--full'], ['--linked'], ['--attach', 'stack']])
      expect(await store.loopbox(['run', ...flags, './a.img'])).toMatchObject({
        code: 2,
        stderr: expect.stringContaining('a FILE is run as it is'),
      });
  });

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
    expect(await store.inspect('gone')).toMatchObject({ state: 'running' });
    await store.done('stop', '-t', '0', 'gone');
    await expect.poll(() => existsSync(store.fileOf('gone'))).toBe(false);
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
    expect(existsSync(store.fileOf('none'))).toBe(false);
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
