import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { StoreUsage } from '../../src/container/disk-usage';
import { MiB } from '../../src/units';
import { execute, program, shell, type TestStore, temporaryDirectory } from '../fixtures';
import { sleep, storeWithSleeper } from '../sleeper';

let store: TestStore;
let place: string;

beforeAll(async () => {
  store = await storeWithSleeper('box', '--start');
  place = await temporaryDirectory();
});

describe('ls, ps and inspect', () => {
  beforeAll(async () => {
    await store.createBusybox('idle', ...sleep);
  });
  afterAll(() => store.done('rm', 'idle'));

  it('ls lists all, ps what runs, -a all, each as a table, as json, and with -q as names', async () => {
    expect(await store.done('ls')).toMatch(
      /^NAME +STATE +PID +SIZE +OWN +TEMPLATE\nbox +running +\d+ +128 MiB +[\d.]+ [KM]iB +busybox\nidle +created +- +128 MiB +[\d.]+ [KM]iB +busybox$/,
    );
    expect(await store.done('ps')).toMatch(/^NAME.*\nbox [^\n]*$/);
    // What a container writes meanwhile shows.
    await expect.poll(async () => (await store.done('ps', '-a')) === (await store.done('ls'))).toBe(true);
    expect(await store.done('ls', '-q')).toBe('box\nidle');
    expect(await store.done('ps', '-q')).toBe('box');
    expect(await store.done('ps', '--all', '--quiet')).toBe('box\nidle');
    const list = (await store.json('ls')) as Record<string, unknown>[];
    expect(list.map(({ name, state }) => [name, state])).toEqual([
      ['box', 'running'],
      ['idle', 'created'],
    ]);
    expect(await store.json('ps')).toHaveLength(1);
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
      attach: 'stack',
      files: [store.fileOf('box')],
      limits: {},
      exitCode: null,
      oomKilled: false,
      endedAt: null,
      startedAt: expect.stringMatching(/^\d{4}-\d\d-\d\dT[\d:.]+Z$/),
    });
    expect(await store.inspect('idle')).toMatchObject({ state: 'created', pid: null, startedAt: null });
    expect(((await store.json('inspect', 'idle', 'box')) as { name: string }[]).map(({ name }) => name)).toEqual(['idle', 'box']);
    expect(await store.done('inspect', '-q', 'idle', 'box')).toBe('idle\nbox');
    expect(await store.done('inspect', 'box')).toMatch(/^Name: +box\nState: +running\nPid: +\d+\nFile: .*\nSize: +128 MiB\n/);
    expect(await store.loopbox(['inspect', 'box', 'nope'])).toMatchObject({ code: 10, stdout: '' });
  });
});

describe('logs', () => {
  it('shows what was written, the last lines of it, and goes on until the end', async () => {
    await store.runBusybox(
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
    await store.loopbox(['exec', 'talks', 'touch', '/tmp/go']);
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

describe('df and info', () => {
  it('df counts per container and template, and for the store', async () => {
    await store.createBusybox('small', '--size', '256M', ...sleep);
    await store.done('exec', 'box', 'dd', 'if=/dev/urandom', 'of=/root/big', 'bs=1M', 'count=20');
    const { containers, templates, store: whole } = (await store.json('df')) as StoreUsage;
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
    const running = ((await store.json('df')) as StoreUsage).containers.find(({ name }) => name === 'small');
    expect(Math.abs((running?.usedBytes ?? 0) - small.usedBytes)).toBeLessThan(MiB / 2);
    expect(await store.done('df')).toMatch(
      /^NAME +KIND +SIZE +USED +OWN +SNAPSHOTS\nbox +container .*\nsmall +container .*\nbusybox +template .*\n\n\/.*: [\d.]+ [GT]iB free of [\d.]+ [GT]iB, 512 MiB promised(, 256 MiB in reserve)?$/,
    );
    expect(await store.done('df', '-q')).toBe('box\nsmall\nbusybox');
    await store.done('rm', '-f', 'small');
  });

  it('info tells what the host offers', async () => {
    expect(await store.json('info')).toMatchObject({
      kernel: await shell('uname', '-r'),
      root: store.root,
      runRoot: store.runRoot,
      reflink: expect.any(Boolean),
      autoAttach: { attach: expect.stringMatching(/^(direct|stack)$/), reason: expect.any(String) },
      cgroup: expect.stringMatching(/^(v1|v2|hybrid)$/),
      runtimes: expect.arrayContaining([expect.objectContaining({ name: 'runc', default: true })]),
      loops: expect.any(Object),
    });
    expect(await store.done('info')).toMatch(
      /^loopbox: .*\nKernel: .*\nRoot: .*reflink.*\nRun root: .*\nAttach: +auto is (direct|stack): .*\nCgroups: .*\nRuntime: .*runc/,
    );
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
      const result = await store.loopbox(['create', 'copied', '--full', '--template', 'busybox', ...flags]);
      expect(result).toMatchObject({ code: 0, stdout: 'copied: 128 MiB, copied from busybox; attach: stack\n' });
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
