import { linkSync } from 'node:fs';
import { copyFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { changeDisk } from '../chain-view';
import { fileOfState, hashOfDisk, withDisk } from '../disk-view';
import type { TestStore } from '../fixtures';
import { smallStore } from '../powercuts/world';

const inside = (store: TestStore, name: string, line: string) => store.done('exec', name, 'sh', '-c', line);

describe('what others stand on, or have a copy of, is removed, settled, restored and updated meanwhile', { timeout: 180_000 }, () => {
  it('and a hard link, dropped-in sealed files, and clones that rest and run go on telling the truth', async () => {
    const store = await smallStore();
    const containers = join(store.root, 'containers');
    await changeDisk(store, 'web', 'head -c 200000 /dev/urandom > root/file');
    await store.done('snapshot', 'create', 'web@mon');
    await changeDisk(store, 'web', 'rm root/file; head -c 300000 /dev/urandom > root/file');
    await store.done('snapshot', 'create', 'web@tue');
    // Clones of a snapshot, of the template, and of each other; one of each runs.
    for (const name of ['rests', 'runs']) await store.done('clone', '--linked', 'web@mon', name);
    await store.done('clone', '--linked', 'runs', 'leaf');
    await store.done('create', '--linked', '--template', 'small', 'site');
    // What strangers do: a hard link to a sealed image, and copies of sealed files, under names of containers.
    linkSync(fileOfState(store, 'web@mon'), join(containers, 'hard.img'));
    await copyFile(fileOfState(store, 'web@mon'), join(containers, 'image.img'));
    await copyFile(fileOfState(store, 'web@tue'), join(containers, 'delta.delta'));
    const running = ['runs', 'site'];
    for (const name of running) {
      await store.done('start', name);
      await inside(store, name, 'echo mine | dd of=/root/mine conv=fsync 2>/dev/null');
    }
    const hashes = new Map<string, string>();
    const hashOf = (state: string) => withDisk(store, state, hashOfDisk);
    for (const state of ['rests', 'leaf', 'hard', 'image', 'delta']) hashes.set(state, await hashOf(state));
    const sums = (name: string) => inside(store, name, 'md5sum /root/* /bin/busybox');
    const shown = new Map<string, string>();
    for (const name of running) shown.set(name, await sums(name));

    const expectTruth = async (after: string) => {
      for (const [state, hash] of hashes) expect([after, state, await hashOf(state)]).toEqual([after, state, hash]);
      for (const [name, sum] of shown) expect([after, name, await sums(name)]).toEqual([after, name, sum]);
    };
    const steps: [args: string[], code?: number][] = [
      [['snapshot', 'rm', '--wait', 'web@mon']],
      [['start', 'web']],
      [['exec', 'web', 'dd', 'if=/dev/urandom', 'of=/root/file', 'bs=4k', 'count=40', 'conv=notrunc,fsync']],
      [['snapshot', 'create', 'web@wed']],
      [['snapshot', 'rm', '--wait', 'web@tue']],
      [['stop', '-t', '0', 'web']],
      [['settle', 'web']],
      [['snapshot', 'restore', 'web@wed']],
      [['template', 'rm', 'small'], 11],
      [['template', 'create', 'small', '--from', 'web'], 11],
      [['rm', '--snapshots', 'web'], 11],
      [['flatten', 'leaf']],
      [['set', 'rests', '--pids', '50']],
      [['rename', 'web', 'other']],
      // It could not be one file without a copy of what others stand on.
      [['flatten', 'other'], 11],
    ];
    for (const [args, code = 0] of steps) {
      const result = await store.loopbox(args);
      expect([args.join(' '), result.code, result.stderr]).toEqual([args.join(' '), code, expect.any(String)]);
      // A whole image of it has no state of its own in common with the delta.
      if (args[0] === 'flatten' && args[1] === 'leaf') hashes.set('leaf', await hashOf('leaf'));
      if (/^(settle|flatten|snapshot r)/.test(args.join(' '))) await expectTruth(args.join(' '));
    }
    for (const name of running) await store.done('stop', '-t', '0', name);
    await store.done('template', 'rm', '--flatten-users', 'small');
    shown.clear();
    await expectTruth('template rm --flatten-users');
  });
});
