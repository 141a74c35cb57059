import { readlinkSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { beforeAll, describe, expect, it } from 'vitest';
import { slotsLength } from '../../src/image/manifest-slots';
import { MiB } from '../../src/units';
import { shell, type TestStore } from '../fixtures';
import { ImageWorkshop, manifestOf } from '../image-workshop';
import { expectRefused } from '../refusal';
import { sampleManifest, seededBytes } from '../unit/image/golden';
import { rawSlots } from '../unit/image/raw-slots';

let images: ImageWorkshop;
let store: TestStore;

beforeAll(async () => {
  images = await ImageWorkshop.open();
  ({ store } = images);
});

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
    const manifest = await manifestOf(images.exported);
    const limits = { ...(manifest.config.limits as object), unified: { 'memory.max': 'max' } };
    return images.withSlots(
      rawSlots(JSON.stringify({ ...manifest, ...wishes, config: { ...manifest.config, ...wishes, limits } }), version),
    );
  }

  it('is ignored by name, and the run grants nothing', async () => {
    const hostile = await withWishes();
    for (const command of probe) {
      const [plain, result] = [
        await store.loopbox(['run', images.exported, '--', ...command]),
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
    const plain = await manifestOf(images.exported);
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
    const path = await images.withSlots(slots());
    await expectRefused(store, ['import', path, 'new'], code, ...words);
    await expectRefused(store, ['run', '-d', path, '--', 'true'], code, ...words);
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
