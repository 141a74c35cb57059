import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { MiB } from '../../src/units';
import { busyboxTar, shell, TestStore, temporaryDirectory } from '../fixtures';
import { checksum, uuidOf } from '../image-view';
import { rawImage } from '../raw-image';
import { sleep } from '../sleeper';

let store: TestStore;
let place: string;

beforeAll(async () => {
  store = await TestStore.create();
  await store.importBusybox('busybox', '--size', '128M');
  place = await temporaryDirectory();
});

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
    const image = await rawImage(place);
    const before = await checksum(image);
    await store.done('template', 'import', 'raw', image, '--size', '200M');
    expect(await checksum(image)).toBe(before);
    expect(await store.json('template', 'inspect', 'raw')).toMatchObject({ sizeBytes: 256 * MiB, config: { environment: {}, limits: {} } });
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
    expect(await store.json('template', 'inspect', 'conf:1.0_A-b', 'conf:list')).toMatchObject([
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
    expect(await store.json('template', 'ls')).toMatchObject([{ name: 'busybox' }, { name: 'second:v2', sizeBytes: 256 * MiB }]);
    await store.done('create', 'versioned', '--full', '--template', 'second:v2', '--start', ...sleep);
    expect(await store.inspect('versioned')).toMatchObject({ state: 'running', template: 'second:v2' });
    expect(await store.done('template', 'rm', 'second:v2')).toBe('second:v2');
    await store.done('rm', '-f', 'versioned');
  });

  it('create makes one of a stopped container, says what it cleaned, and its containers have an identity of their own', async () => {
    await store.createBusybox('golden', '--full', '-e', 'COLOR=gold', '--hostname', 'golden-host', '--memory', '64M', '--start', ...sleep);
    const keep =
      'mkdir -p /etc/ssh && echo k > /etc/ssh/ssh_host_rsa_key && echo p > /etc/ssh/ssh_host_rsa_key.pub && echo c > /etc/ssh/sshd_config';
    await store.done(
      'exec',
      'golden',
      'sh',
      '-c',
      `${keep}; echo 0123456789abcdef0123456789abcdef > /etc/machine-id; echo mine > /root/data`,
    );
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
      await store.done('create', name, '--full', '--template', 'gold:1');
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
      await store.done('run', '--ephemeral', store.fileOf('golden'), '--', 'sh', '-c', 'hostname; cat /etc/machine-id; ls /etc/ssh'),
    ).toContain('golden-host\n0123456789abcdef0123456789abcdef\nssh_host_rsa_key\n');
    await store.done('rm', 'golden', 'gold1', 'gold2');
    await store.done('template', 'rm', 'gold:1');
  });
});
