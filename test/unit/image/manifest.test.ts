import { describe, expect, it } from 'vitest';
import { LoopboxError } from '../../../src/errors';
import { formatManifest, type Manifest, parseManifest } from '../../../src/image/manifest';
import { MiB } from '../../../src/units';
import { sampleManifest, uuids } from './golden';

function failure(body: () => unknown): LoopboxError {
  try {
    body();
  } catch (error) {
    if (error instanceof LoopboxError) return error;
    throw error;
  }
  throw new Error('It did not fail');
}

const full = sampleManifest({
  started: '2025-01-03T00:00:00Z',
  template: { name: 'debian-12:1.0', state: uuids.state },
  sealed: { lengthBytes: 2 * MiB + 65536, superblockCrc32c: 0xffffffff },
  config: {
    command: ['/sbin/init', ''],
    environment: { LANG: 'C.UTF-8', EMPTY: '', 'with.dots': 'ä=ö' },
    workdir: '/srv',
    user: 'www-data:www-data',
    hostname: 'web-1.example',
    stopSignal: 'SIGRTMIN+3',
    limits: { memoryBytes: 1, cpus: 0.1, pids: 1 },
    labels: { 'a/b': 'c' },
  },
});

/** The sample with one key replaced, by its dotted path. */
function withKey(path: string, value: unknown): string {
  const copy = structuredClone(full) as unknown as Record<string, unknown>;
  const keys = path.split('.');
  let at = copy;
  for (const key of keys.slice(0, -1)) at = at[key] as Record<string, unknown>;
  at[keys.at(-1) as string] = value;
  return JSON.stringify(copy);
}

describe('parseManifest', () => {
  it('returns what formatManifest wrote', () => {
    expect(parseManifest(formatManifest(full), 'web.img')).toEqual({ manifest: full, ignored: [] });
    const { container: _, name: __, ...bare } = sampleManifest({ config: { environment: {}, limits: {}, labels: {} } });
    expect(parseManifest(formatManifest(bare), 'web.img').manifest).toEqual(bare);
  });

  it.each([
    ['state', 'not-a-uuid'],
    ['state', undefined],
    ['container', 7],
    ['name', '../../etc'],
    ['name', 'UPPER'],
    ['sizeBytes', '2097152'],
    ['sizeBytes', 4096],
    ['sizeBytes', -MiB],
    ['sizeBytes', 2 ** 60],
    ['created', 'yesterday'],
    ['template', ['x']],
    ['template.state', null],
    ['sealed.superblockCrc32c', 2 ** 32],
    ['sealed.lengthBytes', 1.5],
    ['config', 'x'],
    ['config', null],
    ['config.command', '/bin/sh'],
    ['config.command', []],
    ['config.command', ['']],
    ['config.command', ['/bin/sh', 5]],
    ['config.command', ['/bin/s\0h']],
    ['config.environment', ['A=B']],
    ['config.environment', undefined],
    ['config.environment.A', 1],
    ['config.environment.A=B', 'x'],
    ['config.environment.', 'x'],
    ['config.workdir', 'relative'],
    ['config.user', 'a:b:c'],
    ['config.user', ''],
    ['config.hostname', '-x'],
    ['config.hostname', `a${'b'.repeat(64)}`],
    ['config.stopSignal', 9],
    ['config.stopSignal', 'term'],
    ['config.limits', []],
    ['config.limits.memoryBytes', '64M'],
    ['config.limits.memoryBytes', 0],
    ['config.limits.cpus', 0],
    ['config.limits.pids', 1.5],
    ['config.limits.pids', -1],
    ['config.labels.x', {}],
    ['config.attach', 'loop'],
    ['config.settle', true],
    ['config.hooks', { pre: '' }],
    ['config.hooks', { timeoutSeconds: 0 }],
    ['parent', { state: uuids.state }],
    ['mapOffset', MiB],
    ['snapshot', { name: 'mon', created: '2025-01-02T03:04:05Z', consistency: 'crash', frozenMs: -1 }],
    ['snapshot', { name: 'MON', created: '2025-01-02T03:04:05Z', consistency: 'crash' }],
    ['snapshot', { name: 'mon', created: '2025-01-02T03:04:05Z', consistency: 'perfect' }],
    ['fold', { to: 'x', was: uuids.state, cursor: 0 }],
    ['fold', { to: uuids.state, cursor: 0 }],
    ['fold', { to: uuids.state, was: uuids.state, cursor: -1 }],
    ['formerly', '../x'],
    ['identity', 'old'],
    ['state', '00000000-0000-0000-0000-000000000000'],
    ['container', '00000000-0000-0000-0000-000000000000'],
  ])('refuses a wrong %s (%j) as corrupt, by its name', (path, value) => {
    const error = failure(() => parseManifest(withKey(path, value), 'web.img'));
    expect(error.code).toBe('ERR_LOOPBOX_CORRUPT');
    const key = path.startsWith('config.environment.') ? 'config.environment.' : path;
    expect(error.message).toContain(`Cannot read the manifest of "web.img": "${key}`);
  });

  it.each(['', '{', 'null', '[]', '7', '"x"', '{}', '[[[]]]', 'NaN', '\0'])('refuses %j', (json) => {
    expect(failure(() => parseManifest(json, 'web.img')).code).toBe('ERR_LOOPBOX_CORRUPT');
  });

  it('refuses another kind as not supported', () => {
    expect(failure(() => parseManifest(withKey('kind', 'disk'), 'web.img'))).toMatchObject({
      code: 'ERR_LOOPBOX_NOT_SUPPORTED',
      message: 'Cannot read the manifest of "web.img": "kind" is "disk", this version knows "image" and "delta"',
    });
  });

  it('ignores by name what no file can grant, at every level', () => {
    const hostile = {
      ...full,
      mounts: [{ source: '/', destination: '/host' }],
      capabilities: ['CAP_SYS_ADMIN'],
      config: {
        ...full.config,
        devices: ['/dev/sda'],
        namespaces: { pid: 'host' },
        privileged: true,
        limits: { ...full.config.limits, unified: { 'memory.max': 'max' } },
      },
    };
    const { manifest, ignored } = parseManifest(JSON.stringify(hostile), 'web.img');
    expect(manifest).toEqual(full);
    expect(ignored.sort()).toEqual([
      'capabilities',
      'config.devices',
      'config.limits.unified',
      'config.namespaces',
      'config.privileged',
      'mounts',
    ]);
  });

  it('refuses __proto__ as a key wherever keys are looked at, and pollutes nothing', () => {
    const json = JSON.stringify(full);
    for (const hostile of [
      json.replace('{', '{"__proto__":{"polluted":1},'),
      json.replace('"environment":{', '"environment":{"__proto__":"x",'),
      json.replace('"labels":{', '"labels":{"__proto__":"x",'),
      json.replace('"limits":{', '"limits":{"__proto__":{"pids":1},'),
    ]) {
      expect(failure(() => parseManifest(hostile, 'web.img')).message).toMatch(/__proto__" must be absent$/);
    }
    expect(({} as { polluted?: unknown }).polluted).toBeUndefined();
  });

  it('takes keys that objects have by themselves for what they are', () => {
    const { manifest, ignored } = parseManifest(
      withKey('config.environment', { constructor: 'a', toString: 'b', hasOwnProperty: 'c' }),
      'web.img',
    );
    expect(manifest.config.environment).toEqual({ constructor: 'a', toString: 'b', hasOwnProperty: 'c' });
    expect(ignored).toEqual([]);
    expect(parseManifest(JSON.stringify({ ...full, toString: 1 }), 'web.img').ignored).toEqual(['toString']);
  });

  it('refuses deep nesting, without running out of stack', () => {
    const deep = `${'['.repeat(100_000)}${']'.repeat(100_000)}`;
    expect(failure(() => parseManifest(JSON.stringify(full).replace('{', `{"x":${deep},`), 'web.img')).message).toContain(
      'nested too deeply',
    );
    expect(failure(() => parseManifest('{"a":'.repeat(16_000) + '1' + '}'.repeat(16_000), 'web.img')).message).toContain(
      'nested too deeply',
    );
  });

  it('keeps the unknown keys of a newer minor version on rewrite', () => {
    const newer = { ...full, hooks: { start: ['/x'] }, config: { ...full.config, cgroup: { deep: [1, { x: 2 }] } } };
    const parsed = parseManifest(JSON.stringify(newer), 'web.img', 7);
    expect(parsed.ignored).toEqual(['config.cgroup', 'hooks']);
    expect(parsed.manifest.formatMinor).toBe(7);
    const changed: Manifest = { ...parsed.manifest, config: { ...parsed.manifest.config, user: 'nobody' } };
    const { config, ...rest } = newer;
    expect(JSON.parse(formatManifest(changed))).toEqual({ ...rest, config: { ...config, user: 'nobody' } });
  });
});

describe('formatManifest', () => {
  it('refuses what no reader would accept, as a mistake of use', () => {
    const error = failure(() => formatManifest(sampleManifest({ config: { environment: { 'A\0': '' }, limits: {}, labels: {} } })));
    expect(error).toMatchObject({
      code: 'ERR_LOOPBOX_USAGE',
      message: 'Cannot store the config: "config.environment.A\0" must be a valid name',
    });
  });

  it('leaves out keys that are undefined', () => {
    const manifest = { ...sampleManifest(), started: undefined } as unknown as Manifest;
    expect(JSON.parse(formatManifest(manifest))).not.toHaveProperty('started');
  });
});
