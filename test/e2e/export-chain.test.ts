import { rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { MiB } from '../../src/units';
import { changeDisk, contentOfState, contentOfView, manifestOf } from '../chain-view';
import { chainedContainer } from '../chained-container';
import { execute, program, shell, type TestStore, temporaryDirectory, xfsDirectory } from '../fixtures';
import { checksum, hostExtents, uuidOf } from '../image-view';

let store: TestStore;
let directory: string;

beforeAll(async () => {
  store = await chainedContainer();
  directory = await temporaryDirectory();
});

const states = ['web', 'web@mon', 'web@tue'];

describe('export of a container that is a chain, and of its snapshots', () => {
  it.each(states)('%s is one image with all of it, that needs no other file', async (state) => {
    const file = join(directory, `${state}.img`);
    const before = await contentOfState(store, state);
    expect(await store.done('export', state, file)).toBe(`${file}: 128 MiB`);
    await shell('e2fsck', '-fn', file);
    expect(await contentOfView(file)).toBe(before);
    // A snapshot's file has ext4's feature; what is exported can be written to.
    expect(await shell('dumpe2fs', '-h', file)).not.toMatch(/^Filesystem features:.* read-only/m);

    const manifest = manifestOf(file);
    expect(manifest).toMatchObject({ kind: 'image', name: 'web', sizeBytes: 128 * MiB, config: { environment: { GREETING: 'hello' } } });
    for (const key of ['parent', 'sealed', 'snapshot', 'mapOffset', 'mapBytes', 'dataOffset']) expect(manifest).not.toHaveProperty(key);
    const [own = ''] = (await store.done('files', state)).split('\n');
    expect(manifest.state).not.toBe(manifestOf(own).state);
    expect(manifest.container).not.toBe(manifestOf(own).container);
    // What lies in several files of the chain lies once in it.
    expect((await stat(file)).blocks * 512).toBeLessThan(8 * MiB);
    await store.done('import', file, 'copy');
    expect(await contentOfState(store, 'copy')).toContain('/root/day');
    await store.done('rm', 'copy');
  });

  it.each(states)('%s as a stream is the same disk', async (state) => {
    const file = join(directory, `${state}.file`);
    const stream = join(directory, `${state}.stream`);
    await store.done('export', state, file);
    await shell('sh', '-c', `"${program}" --root "${store.root}" --run-root "${store.runRoot}" export ${state} - > "${stream}"`);
    expect((await stat(stream)).size).toBe(128 * MiB + 64 * 1024);
    await shell('cmp', '-n', String(128 * MiB), file, stream);
    expect(manifestOf(stream)).toMatchObject({ kind: 'image', name: 'web' });
  });

  it('changes none of its files, and says what is not there', async () => {
    const files = (await store.done('files', 'web')).split('\n');
    const sums = await Promise.all(files.map(checksum));
    await store.done('export', 'web', join(directory, 'again.img'));
    expect(await Promise.all(files.map(checksum))).toEqual(sums);
    expect(await store.loopbox(['export', 'web@wed', join(directory, 'x.img')])).toMatchObject({
      code: 10,
      stderr: expect.stringContaining('"web@wed"'),
    });
    expect(await store.loopbox(['export', 'web@tue', join(directory, 'again.img')])).toMatchObject({ code: 11 });
  });

  it('goes on while its container is changed and its snapshots are removed', async () => {
    const wanted = await contentOfState(store, 'web@mon');
    const file = join(directory, 'slow.img');
    const command = `"${program}" --root "${store.root}" --run-root "${store.runRoot}"`;
    // The reader begins when the names have gone: what is exported was open by then.
    await shell(
      'sh',
      '-c',
      `${command} export web@mon - | { head -c 65536; sleep 0.3; ${command} snapshot rm web@tue web@mon >/dev/null 2>&1; cat; } > "${file}"`,
    );
    expect(await contentOfView(file)).toBe(wanted);
    // What was removed may still be merged.
    await store.done('export', '--force', 'web', file);
    expect(await contentOfView(file)).toContain('/root/day');
  });
});

describe('a snapshot that was taken while its container runs', () => {
  it('is exported, checked, mapped and linked to while that goes on', async () => {
    const running = await chainedContainer();
    await running.done('start', 'web');
    await running.done('exec', 'web', 'sh', '-c', 'echo live > /root/live && sync');
    await running.done('snapshot', 'create', 'web@live');
    await running.done('exec', 'web', 'sh', '-c', 'echo later > /root/live && sync');

    const file = join(directory, 'live.img');
    await running.done('export', 'web@live', file);
    await shell('e2fsck', '-fp', file);
    expect(await shell('debugfs', '-R', 'cat /root/live', file)).toBe('live');
    expect(await running.done('check', 'web@live')).toMatch(/file system: clean$/);
    expect(((await running.json('map', 'web@live')) as { files: unknown[] }).files).toHaveLength(3);
    await running.done('export', 'web', join(directory, 'later.img'));
    expect(await shell('debugfs', '-R', 'cat /root/live', join(directory, 'later.img'))).toBe('later');

    await running.done('clone', '--linked', 'web@live', 'linked');
    await running.done('start', 'linked');
    expect(await running.done('exec', 'linked', 'cat', '/root/live')).toBe('live');
    expect(await running.done('exec', 'web', 'cat', '/root/live')).toBe('later');
    await running.done('stop', '-t', '0', 'linked', 'web');
  });
});

describe('export of a linked clone', () => {
  it('that was never started has an identity of its own', async () => {
    await store.createBusybox('fresh', '--linked');
    const file = join(directory, 'fresh.img');
    await store.done('export', 'fresh', file);
    expect(manifestOf(file)).not.toHaveProperty('identity');
    expect(uuidOf(file)).not.toBe(uuidOf(join(store.root, 'templates/busybox.img')));
    expect(await shell('debugfs', '-R', 'cat /etc/hostname', file)).toBe('fresh');
    await shell('e2fsck', '-fn', file);
    await store.done('rm', 'fresh');
  });

  it('needs neither template nor store, also from a FILE', async () => {
    await store.createBusybox('linked', '--linked', '--start', '--', 'sleep', '1000');
    await store.done('stop', '-t', '0', 'linked');
    await changeDisk(store, 'linked', 'echo mine > root/mine');
    const [own = ''] = (await store.done('files', 'linked')).split('\n');
    expect(own).toMatch(/linked\.delta$/);
    const wanted = await contentOfState(store, 'linked');
    for (const argument of ['linked', own]) {
      const file = join(directory, 'linked.img');
      await store.done('export', argument, file);
      expect(await contentOfView(file)).toBe(wanted);
      await rm(file);
    }
  });

  it('that was moved without what it stands on says what it needs (13)', async () => {
    const [own = ''] = (await store.done('files', 'linked')).split('\n');
    const moved = join(await temporaryDirectory(), 'moved.delta');
    await shell('cp', '--sparse=always', own, moved);
    const elsewhere = { LOOPBOX_ROOT: join(directory, 'no store'), LOOPBOX_RUN_ROOT: join(directory, 'no runs') };
    const result = await execute(program, ['export', moved, join(directory, 'moved.img')], { env: elsewhere });
    expect(result).toMatchObject({ code: 13, stderr: expect.stringContaining('busybox.img') });
  });
});

describe('export on a host with reflinks', () => {
  it('shares the blocks of all files of a chain', async () => {
    const place = await xfsDirectory();
    const onXfs = await chainedContainer(place);
    const file = join(place, 'out.img');
    await onXfs.done('export', 'web', file);
    expect(await contentOfView(file)).toBe(await contentOfState(onXfs, 'web'));
    const { allocatedBytes, sharedBytes } = await hostExtents(file);
    // All but the manifest and the first block.
    expect(allocatedBytes - sharedBytes).toBeLessThan(256 * 1024);
  });
});
