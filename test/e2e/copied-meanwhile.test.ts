import { mkdir, rm } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { fileOfState, hashOfDisk, withDisk } from '../disk-view';
import { execute, type ExecuteResult, seededRandom, shell, soakCount, temporaryDirectory, type TestStore } from '../fixtures';
import { contentOf } from '../image-view';
import { smallStore } from '../powercuts/world';
import { containerFiles } from '../truth';

type Tool = (paths: string[], to: string) => Promise<ExecuteResult>;

const copiers: Record<string, Tool> = {
  cp: (paths, to) => execute('cp', [...paths, to]),
  'cp --sparse=never': (paths, to) => execute('cp', ['--sparse=never', ...paths, to]),
  rsync: (paths, to) => execute('rsync', ['-a', ...paths, to]),
  'rsync -S': (paths, to) => execute('rsync', ['-aS', ...paths, to]),
  'tar -S': (paths, to) =>
    execute('bash', [
      '-c',
      'set -o pipefail; to=$1; cd "$0"; shift; tar -Scf - "$@" | tar -C "$to" -xf -',
      dirname(paths[0] ?? ''),
      to,
      ...paths.map((path) => basename(path)),
    ]),
  'a hard link': (paths, to) => execute('ln', [...paths, to]),
};

const inside = (store: TestStore, line: string) => store.done('exec', 'web', 'sh', '-c', line);
const hashOf = (store: TestStore, state: string) => withDisk(store, state, hashOfDisk);

/** The disk of a copied state, by a reader that shares no code with loopbox. */
async function hashOfCopy(path: string): Promise<string> {
  const disk = join(await temporaryDirectory(), 'disk');
  await shell('/usr/bin/python3', join(import.meta.dirname, '../read-chain.py'), path, disk);
  try {
    return await hashOfDisk(disk);
  } finally {
    await rm(disk);
  }
}

/** Takes three snapshots of the container, which runs, and goes on writing; returns what each is. */
async function takeThree(store: TestStore): Promise<Map<string, string>> {
  const hashes = new Map<string, string>();
  for (const name of ['a', 'b', 'c']) {
    await inside(store, `dd if=/dev/urandom of=/root/${name} bs=64k count=8 conv=fsync 2>/dev/null; rm -f /root/noise-*`);
    await store.done('snapshot', 'create', `web@${name}`);
    hashes.set(`web@${name}`, await hashOf(store, `web@${name}`));
  }
  return hashes;
}

/**
 * Copies all files of a state while `meanwhile` goes on. Returns false where that has waited (exit 11 of `files`), or a name was gone; else
 * the copy is the state, and is one to loopbox, too.
 */
async function copiesMeanwhile(store: TestStore, tool: Tool, state: string, wanted: string, after: () => Promise<void>): Promise<boolean> {
  await after();
  const { code, stdout, stderr } = await store.loopbox(['files', state]);
  expect([0, 11], stderr).toContain(code);
  if (code !== 0) return false;
  const to = join(dirname(store.root), `copy-${Math.random()}`);
  await mkdir(to);
  try {
    const paths = stdout.trim().split('\n');
    const copied = await tool(paths, to);
    if (copied.code !== 0) {
      // Also where it says that the file changed under it, be it in name only.
      expect(copied.stderr).toMatch(/No such file|vanished|cannot stat|Cannot (stat|open)|file changed|File removed|replaced while/);
      return false;
    }
    // A link is not the state itself, but what it was linked from may have become part of it.
    const path = join(to, basename(paths[0] ?? ''));
    expect(await hashOfCopy(path)).toBe(wanted);
    expect(await store.loopbox(['check', path])).toMatchObject({ code: 0 });
    return true;
  } finally {
    await rm(to, { recursive: true });
  }
}

describe('a sealed file that is copied while snapshots come and go', { timeout: soakCount(10) * 60_000 }, () => {
  it.each(Object.entries(copiers))('by %s is the snapshot, or the copy was not to be had', async (_, tool) => {
    const random = seededRandom();
    const store = await smallStore([
      'sh',
      '-c',
      'while :; do dd if=/dev/urandom of=/root/noise bs=4k count=20 conv=notrunc,fsync; sleep 0.05; done',
    ]);
    let copied = 0;
    await store.done('start', 'web');
    for (let round = 0; round < soakCount(10); round++) {
      const hashes = await takeThree(store);
      const names = [...hashes.keys()];
      const gone = names.splice(random.below(3), 1)[0] ?? '';
      // As it runs, a snapshot goes and another one comes.
      const removing = store.loopbox(['snapshot', 'rm', '--wait', gone]);
      for (const state of names) {
        if (await copiesMeanwhile(store, tool, state, hashes.get(state) ?? '', () => sleep(random.below(150)))) copied++;
      }
      expect(await removing).toMatchObject({ code: 0 });
      // At rest all of it becomes one image, with what is kept beside it.
      await store.done('stop', '-t', '0', 'web');
      const settling = store.loopbox(['settle', 'web']);
      for (const state of names) {
        if (await copiesMeanwhile(store, tool, state, hashes.get(state) ?? '', () => sleep(random.below(150)))) copied++;
      }
      expect(await settling).toMatchObject({ code: 0 });
      for (const state of names) expect(await hashOf(store, state), state).toBe(hashes.get(state));
      // On a slow host all of them may have had to wait.
      if (copied === 0 && (await copiesMeanwhile(store, tool, names[0] ?? '', hashes.get(names[0] ?? '') ?? '', async () => {}))) copied++;
      await store.done('start', 'web');
      for (const state of names) await store.done('snapshot', 'rm', '--wait', state);
    }
    expect(copied).toBeGreaterThan(0);
    await store.done('stop', '-t', '0', 'web');
    await withDisk(store, 'web', (disk) => shell('e2fsck', '-fn', disk));
  });

  it('by `mount -o loop,ro` shows the snapshot for as long as it is mounted', async () => {
    const store = await smallStore();
    await store.done('start', 'web');
    await takeThree(store);
    await inside(store, 'rm /root/a; dd if=/dev/urandom of=/root/b bs=64k count=8 conv=fsync 2>/dev/null');
    const directory = join(await temporaryDirectory(), 'mount');
    await mkdir(directory);
    await shell('mount', '-o', 'loop,ro', fileOfState(store, 'web@a'), directory);
    try {
      const before = await contentOf(directory);
      const look = async () => {
        await shell('sh', '-c', 'echo 3 > /proc/sys/vm/drop_caches');
        expect(await contentOf(directory)).toBe(before);
      };
      expect(await store.loopbox(['snapshot', 'rm', '--wait', 'web@a'])).toMatchObject({ code: 0 });
      await look();
      await store.done('stop', '-t', '0', 'web');
      expect((await store.loopbox(['settle', 'web'])).code).toBe(0);
      await look();
      expect(containerFiles(store).filter((name) => name.includes('@~'))).not.toEqual([]);
    } finally {
      await shell('umount', directory);
    }
    const settled = async () => {
      await store.done('settle', 'web');
      return containerFiles(store);
    };
    await expect.poll(settled).toEqual(['web.img', 'web@b.delta', 'web@c.delta']);
  });
});
