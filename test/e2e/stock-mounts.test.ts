import { readdirSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import type { PendingFile } from '../../src/image/reclaim';
import { settleSteps } from '../../src/image/settle';
import { execute, shell, TestStore, temporaryDirectory, xfsDirectory } from '../fixtures';
import { attachedLoops } from '../loop-devices';
import { mergeContext } from '../root/chain-world';

const writer = ['--', 'sh', '-c', 'i=0; while :; do i=$((i+1)); echo $i > /count.new; sync; mv /count.new /count; sleep 0.05; done'];

/** Where a store lies, and how its container is made. */
const kinds: [string, () => Promise<string>, string[]][] = [
  ['linked to its template, on ext4', temporaryDirectory, ['--linked']],
  ['an image and deltas, on ext4', temporaryDirectory, ['--full', '--attach', 'stack']],
  ['whole images, on XFS', xfsDirectory, ['--full', '--attach', 'direct']],
];

describe.each(kinds)('stock mount -o loop, of each file of a running container: %s', (_, place, flags) => {
  it('is refused, or changes nothing: it runs on, and what is sealed stays the same, byte for byte', async () => {
    const store = await TestStore.create(await place());
    await store.importBusybox('busybox', '--size', '128M');
    await store.createBusybox('web', ...flags, ...writer);
    await store.done('start', 'web');
    for (const name of ['web@one', 'web@two']) await store.done('snapshot', 'create', name);
    const files = filesOf(store);
    const sealed = files.filter((file) => !isPresent(file));
    const before = await shell('sha256sum', ...sealed);
    expect(files).toEqual(expect.arrayContaining((await store.done('files', 'web')).split('\n')));
    const outcomes: string[] = [];
    for (const file of files) {
      for (const options of ['loop', 'loop,ro', 'loop,ro,noload']) outcomes.push(await tryMount(file, options));
    }
    expect(filesOf(store)).toEqual(files);
    // The present is never mounted, whatever it is: two would write to one file.
    const present = files.findIndex(isPresent);
    expect(outcomes.slice(3 * present, 3 * present + 3)).toEqual(['refused', 'refused', 'refused']);
    expect(outcomes.filter((outcome) => outcome === 'written')).toEqual([]);

    const count = Number(await store.done('exec', 'web', '--', 'cat', '/count'));
    await expect.poll(async () => Number(await store.done('exec', 'web', '--', 'cat', '/count'))).toBeGreaterThan(count);
    expect(await shell('sha256sum', ...sealed)).toBe(before);
    await store.done('stop', '-t', '0', 'web');
    await store.done('check', 'web');
  });
});

describe('stock mount -o loop of a top that is prepared while a snapshot’s hook runs', () => {
  it('is refused, and the snapshot comes through', async () => {
    const store = await TestStore.create();
    await store.importBusybox('busybox', '--size', '128M');
    await store.createBusybox('web', '--linked', ...writer);
    await store.done('start', 'web');
    const taking = store.loopbox(['snapshot', 'create', 'web@one', '--pre', 'until [ -e /go ]; do sleep 0.05; done']);
    const next = join(store.root, 'containers/web.next');
    await expect.poll(() => filesOf(store)).toContain(next);
    const outcomes: string[] = [];
    for (const options of ['loop', 'loop,ro', 'loop,ro,noload']) outcomes.push(await tryMount(next, options));
    expect(filesOf(store)).toContain(next);
    await store.done('exec', 'web', 'touch', '/go');
    expect(await taking).toMatchObject({ code: 0 });
    expect(outcomes).toEqual(['refused', 'refused', 'refused']);
    expect(filesOf(store)).not.toContain(next);
    await store.done('stop', '-t', '0', 'web');
    await store.done('check', 'web');
    await store.done('check', 'web@one');
  });
});

describe('stock mount -o loop of an image that a settle which was cut was merging into', () => {
  it('changes nothing, and the settle comes through', async () => {
    const store = await TestStore.create();
    await store.importBusybox('busybox', '--size', '128M');
    await store.createBusybox('web', '--full', '--attach', 'stack', '--start', '--', 'sleep', '1000');
    await store.done('set', '--settle', 'never', 'web');
    await store.done('snapshot', 'create', 'web@one');
    await store.done('exec', 'web', '--', 'dd', 'if=/dev/urandom', 'of=/more', 'bs=1M', 'count=8');
    const sum = await store.done('exec', 'web', '--', 'sha256sum', '/more');
    await store.done('stop', '-t', '0', 'web');
    const steps = settleSteps(mergeContext(join(store.root, 'containers')), new Map<string, PendingFile>());
    while ((await steps.next()).value !== 'the cursor has moved');
    await steps.return(undefined);

    const [merged = ''] = filesOf(store).filter((file) => file.endsWith('.fold'));
    const outcomes: string[] = [];
    for (const options of ['loop', 'loop,ro', 'loop,ro,noload']) outcomes.push(await tryMount(merged, options));
    expect(outcomes).not.toContain('written');
    await store.done('settle', 'web');
    for (const name of ['web', 'web@one']) await store.done('check', name);
    await store.done('start', 'web');
    expect(await store.done('exec', 'web', '--', 'sha256sum', '/more')).toBe(sum);
  });
});

function isPresent(file: string): boolean {
  return /\/web\.(img|delta)$/.test(file);
}

/** All files that the store's containers and templates have now. */
function filesOf(store: TestStore): string[] {
  return ['containers', 'templates'].flatMap((name) => readdirSync(join(store.root, name)).map((file) => join(store.root, name, file)));
}

/** What comes of a mount of one file, and of a write there; nothing of it stays. */
async function tryMount(file: string, options: string): Promise<'refused' | 'read' | 'written'> {
  const directory = join(await temporaryDirectory(), 'mount');
  await mkdir(directory);
  const result = await execute('mount', ['-o', options, file, directory]);
  if (result.code !== 0) {
    await expect.poll(() => attachedLoops().filter(({ backingFile }) => backingFile === file).length).toBeLessThanOrEqual(1);
    return 'refused';
  }
  const written = await execute('touch', [join(directory, 'written')]);
  expect((await execute('umount', [directory])).code).toBe(0);
  return written.code === 0 ? 'written' : 'read';
}
