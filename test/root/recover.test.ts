import { readdirSync, writeFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { readBlocks } from '../../src/image/chain';
import { namesOfCommit, prepareTop, replaceSteps, replaceTop, sealKept } from '../../src/image/commit-top';
import { openDelta } from '../../src/image/delta-file';
import { writeManifest } from '../../src/image/image-file';
import { openLayer } from '../../src/image/layer-file';
import type { Manifest } from '../../src/image/manifest';
import { recover, recoverSteps } from '../../src/image/recover';
import { verifySeal } from '../../src/image/seal';
import type { IndexedFile } from '../../src/image/state-index';
import { parseSuperblock } from '../../src/image/superblock';
import { unlinkNeedless } from '../../src/image/unlink-file';
import { tryLock } from '../../src/flock';
import { KiB, MiB } from '../../src/units';
import { newUuid } from '../../src/uuid';
import { execute, shell } from '../fixtures';
import { overwrite } from '../image-workshop';
import { block, type Disk, diskBytes, diskOf, emptyDisk, folding, Layers, withBlocks } from './layers';

const base = withBlocks(
  emptyDisk(),
  new Map([
    [0, 9],
    [1, 1],
    [2, 2],
    [700, 3],
  ]),
);
const changes = new Map([
  [2, 20],
  [5, 50],
  [700, 0],
]);

interface Scene {
  /** The container's files, as they are when the work begins. */
  make: (layers: Layers) => Promise<void>;
  steps: (layers: Layers) => AsyncGenerator<string>;
  /** What must hold whenever recover has been, whatever was cut, and how often. */
  judge: (layers: Layers, files: string[], doneSteps: number) => Promise<void>;
}

/** Takes the first `count` steps and no more, as a kill would. Returns how many there were. */
async function cutAfter(steps: AsyncGenerator<string>, count: number): Promise<number> {
  let done = 0;
  while (done < count && !(await steps.next()).done) done++;
  return done;
}

/** Cuts the work after each of its steps, recover after each of its own, and lets it come through then; twice. */
async function expectCutSafe({ make, steps, judge }: Scene): Promise<void> {
  let cuts = 0;
  for (let at = 0, last = false; !last; at++) {
    for (let inRecover = 0, lastInRecover = false; !lastInRecover; inRecover++) {
      const layers = await Layers.make();
      await make(layers);
      const done = await cutAfter(steps(layers), at);
      last = done < at;
      lastInRecover = (await cutAfter(recoverSteps(layers.directory, 'web'), inRecover)) < inRecover;
      await recover(layers.directory, 'web');
      const files = filesOf(layers);
      await judge(layers, files, done);
      expect(await recover(layers.directory, 'web')).toEqual([]);
      expect(filesOf(layers)).toEqual(files);
      cuts++;
    }
  }
  expect(cuts).toBeGreaterThan(3);
}

function filesOf({ directory }: Layers): string[] {
  return readdirSync(directory).sort();
}

async function viewOf(layers: Layers, fileName: string): Promise<Disk> {
  await using chain = await layers.chain(fileName);
  return diskOf(await readBlocks(chain, 0, chain.sizeBytes));
}

async function* noSteps(): AsyncGenerator<string> {}

/** A commit of a new top over `top`, as a snapshot of a stopped container takes it. */
async function commitOf(layers: Layers, top: string, kept: string, on = top) {
  await using chain = await layers.chain(on);
  const { config, name, container, created } = chain.top.manifest as Manifest;
  const commit = {
    directory: layers.directory,
    name: 'web',
    extension: top.endsWith('.img') ? ('img' as const) : ('delta' as const),
    kept,
  };
  const next = {
    directory: layers.directory,
    name: 'web',
    sizeBytes: chain.sizeBytes,
    parent: { state: chain.top.manifest?.state ?? '', hint: on === top ? namesOfCommit(commit).kept : on },
    block0: await readBlocks(chain, 0, block),
    manifest: { config, created, ...(name && { name }), ...(container && { container }) },
  };
  return { next, commit };
}

async function* commitSteps(...args: Parameters<typeof commitOf>): AsyncGenerator<string> {
  const { next, commit } = await commitOf(...args);
  yield* replaceSteps(next, commit, { name: 'mon', created: '2025-01-02T03:04:05Z', consistency: 'stopped' });
}

describe('a commit that is cut after any step, and recovered with cuts, leaves the old top or the new one:', () => {
  it('over an image', async () => {
    await expectCutSafe({
      make: async (layers) => void (await layers.image('web.img', base)),
      steps: (layers) => commitSteps(layers, 'web.img', 'mon'),
      judge: async (layers, files, done) => {
        if (done < 2) expect(files).toEqual(['web.img']);
        else await expectSnapshot(layers, files, 'web@mon.img', base);
        expect(await viewOf(layers, done < 2 ? 'web.img' : 'web.delta')).toEqual(base);
      },
    });
  });

  it('over a chain, without a name', async () => {
    await expectCutSafe({
      make: async (layers) => {
        const state = await layers.image('web@mon.img', base, { sealed: true });
        await layers.delta('web.delta', state, changes);
      },
      steps: (layers) => commitSteps(layers, 'web.delta', '~1'),
      judge: async (layers, files, done) => {
        expect(files).toEqual(done < 2 ? ['web.delta', 'web@mon.img'] : ['web.delta', 'web@mon.img', 'web@~1.delta']);
        expect(await viewOf(layers, 'web.delta')).toEqual(withBlocks(base, changes));
        if (done >= 2) expect((await layers.manifest('web@~1.delta')).sealed).toBeDefined();
      },
    });
  });

  it('on an older snapshot: a restore', async () => {
    await expectCutSafe({
      make: async (layers) => {
        const state = await layers.image('web@mon.img', base, { sealed: true });
        await layers.delta('web.delta', state, changes);
      },
      steps: (layers) => commitSteps(layers, 'web.delta', 'before-restore', 'web@mon.img'),
      judge: async (layers, files, done) => {
        expect(await viewOf(layers, 'web.delta')).toEqual(done < 2 ? withBlocks(base, changes) : base);
        if (done >= 2) await expectSnapshot(layers, files, 'web@before-restore.delta', withBlocks(base, changes));
      },
    });
  });

  async function expectSnapshot(layers: Layers, files: string[], fileName: string, disk: Disk): Promise<void> {
    expect(files).toEqual(['web.delta', ...files.filter((file) => file.startsWith('web@'))]);
    expect(await layers.manifest(fileName)).toMatchObject({
      sealed: {},
      snapshot: { consistency: expect.stringMatching(/stopped|crash/) },
    });
    expect(await layers.view(fileName)).toEqual(disk);
  }
});

describe('a new top', () => {
  it('owns block 0, of its parent’s view, and can be written to whatever it stands on', async () => {
    const layers = await Layers.make();
    await layers.image('web@mon.img', base, { sealed: true });
    await layers.image('web.img', emptyDisk());
    const { next, commit } = await commitOf(layers, 'web.img', 'tue', 'web@mon.img');
    expect(parseSuperblock(next.block0.subarray(KiB, 2 * KiB))).toMatchObject({ readOnly: true });
    await replaceTop(next, commit);
    await using chain = await layers.chain('web.delta');
    const head = await readBlocks(chain, 0, block);
    expect(parseSuperblock(head.subarray(KiB, 2 * KiB))).toMatchObject({ readOnly: false, checksumValid: true });
    expect(diskOf(head)).toEqual([9]);
    expect((await layers.manifest('web@tue.img')).sealed).toMatchObject({ superblockCrc32c: expect.any(Number) });
  });

  it('is refused where one is prepared already, or the kept name is taken: nothing changes', async () => {
    const layers = await Layers.make();
    const state = await layers.image('web.img', base);
    const { next, commit } = await commitOf(layers, 'web.img', 'mon');
    await prepareTop(next);
    await expect(prepareTop(next)).rejects.toMatchObject({ code: 'EEXIST' });
    await recover(layers.directory, 'web');
    await layers.delta('web@mon.img', state, new Map());
    await expect(replaceTop(next, commit)).rejects.toMatchObject({ code: 'EEXIST' });
    await recover(layers.directory, 'web');
    expect(filesOf(layers)).toEqual(['web.img', 'web@mon.img']);
  });
});

describe('a fold that is cut', () => {
  it('before its record: what was prepared is needless', async () => {
    await expectCutSafe({
      make: async (layers) => {
        const from = await layers.image('web@mon.img', base, { sealed: true });
        const to = await layers.delta('web.delta', from, changes);
        await layers.delta('web@mon.next', to, new Map(), { state: from });
      },
      steps: noSteps,
      judge: async (layers, files) => {
        expect(files).toEqual(['web.delta', 'web@mon.img']);
        expect(await viewOf(layers, 'web.delta')).toEqual(withBlocks(base, changes));
      },
    });
  });

  it('after its record: the image promises nothing any more, and what is kept has its name', async () => {
    await expectCutSafe({
      make: async (layers) => {
        const [from, to] = [newUuid(), newUuid()];
        await layers.image('web@mon.img', base, folding(to, from, from));
        await layers.delta('web.delta', from, changes, { state: to });
        await layers.delta('web@mon.next', undefined, new Map(), {
          state: from,
          manifest: { sealed: { lengthBytes: 2 * MiB + diskBytes } },
        });
      },
      steps: noSteps,
      judge: async (layers, files) => {
        expect(files).toEqual(['web.delta', 'web@mon.delta', 'web@~1.fold']);
        expect(await viewOf(layers, 'web.delta')).toEqual(withBlocks(base, changes));
        expect(await viewOf(layers, 'web@mon.delta')).toEqual(base);
      },
    });
  });

  it('after its commit: the image takes the name of the source, which goes', async () => {
    const state = newUuid();
    const present = withBlocks(base, changes);
    for (const [fold, source, image] of [
      ['web@~1.fold', 'web.delta', 'web.img'],
      ['web.img', 'web.delta', 'web.img'],
      ['web@~7.fold', 'web@tue.delta', 'web@tue.img'],
    ] as const) {
      await expectCutSafe({
        make: async (layers) => {
          await layers.image(fold, present, { state, sealed: true });
          await layers.delta(source, newUuid(), new Map(), { state });
          await layers.delta('web@mon.delta', state, new Map([[1, 7]]), { sealed: true });
          if (source !== 'web.delta') await layers.delta('web.delta', state, changes);
        },
        steps: noSteps,
        judge: async (layers, files) => {
          expect(files).toContain(image);
          expect(files).not.toContain(source);
          expect(files.some((file) => file.endsWith('.fold'))).toBe(false);
          expect(await viewOf(layers, 'web@mon.delta')).toEqual(withBlocks(present, new Map([[1, 7]])));
          expect(await viewOf(layers, image === 'web.img' ? image : 'web.delta')).toEqual(present);
        },
      });
    }
  });
});

describe('a rename that is cut', () => {
  const container = newUuid();
  const manifest = { container, name: 'web', formerly: 'old' };

  it('after its commit is finished, with all that goes with it', async () => {
    const told: string[] = [];
    const layers = await Layers.make();
    const state = await layers.image('old@mon.img', base, { sealed: true, manifest: { container, name: 'old' } });
    await layers.delta('web.delta', state, changes, { manifest });
    await layers.image('old@stranger.img', base, { sealed: true, manifest: { container: newUuid() } });
    const options = { renameRest: async (from: string, to: string) => void told.push(`${from} ${to}`) };
    for (let cut = 0; cut < 3; cut++) await cutAfter(recoverSteps(layers.directory, 'web', options), cut);
    await recover(layers.directory, 'web', options);
    expect(filesOf(layers)).toEqual(['old@stranger.img', 'web.delta', 'web@mon.img']);
    expect(told[0]).toBe('old web');
    expect(await layers.manifest('web.delta')).toEqual(expect.not.objectContaining({ formerly: expect.anything() }));
    expect(await recover(layers.directory, 'web', options)).toEqual([]);
  });

  it('before its commit has not been', async () => {
    const layers = await Layers.make();
    await layers.image('web.img', base, { manifest: { container, name: 'new', formerly: 'web' } });
    await recover(layers.directory, 'web');
    expect(await layers.manifest('web.img')).toMatchObject({ name: 'web' });
    expect(await layers.manifest('web.img')).not.toHaveProperty('formerly');
  });

  it('is not finished over a container of the old name that has its id', async () => {
    const layers = await Layers.make();
    await layers.image('web.img', base, { manifest });
    await layers.image('old.img', base, { manifest: { container, name: 'old' } });
    await expectStopped(layers, /^Cannot recover "web": it was "old", and "old.img" is there, too$/);
  });
});

async function expectStopped(layers: Layers, message: RegExp, options: Parameters<typeof recover>[2] = {}): Promise<void> {
  const before = filesOf(layers);
  await expect(recover(layers.directory, 'web', options)).rejects.toMatchObject({ code: 'ERR_LOOPBOX_CORRUPT', message });
  expect(filesOf(layers)).toEqual(before);
}

describe('recover stops, and touches nothing,', () => {
  it('where two files claim to be the present', async () => {
    const layers = await Layers.make();
    await layers.image('web.img', base);
    await layers.delta('web.delta', newUuid(), new Map());
    await layers.delta('web.next', newUuid(), new Map());
    await expectStopped(layers, /^Cannot recover "web": both "web.img" and "web.delta" claim to be its present$/);
    writeFileSync(layers.path('web.img'), 'noise');
    await expectStopped(layers, /both "web.img" and "web.delta"/);
  });

  it('where what was prepared holds data, or can’t be read', async () => {
    const layers = await Layers.make();
    const state = await layers.image('web.img', base);
    await layers.delta(
      'web.next',
      state,
      new Map([
        [0, 1],
        [diskBytes / block - 1, 1],
      ]),
    );
    await expectStopped(layers, /^Cannot remove "web.next": it holds data that no other file has$/);
    writeFileSync(layers.path('web.next'), 'noise');
    await expectStopped(layers, /^Cannot recover "web": "web.next" can't be read$/);
  });

  it('where only what was prepared for a fold has its state', async () => {
    const layers = await Layers.make();
    await layers.image('web.img', base);
    await layers.delta('web@mon.next', newUuid(), new Map());
    await expectStopped(layers, /^Cannot recover "web": only "web@mon.next" has its state$/);
  });
});

describe('recover leaves alone', () => {
  it('other containers, and copies that somebody made of the present', async () => {
    const layers = await Layers.make();
    const state = await layers.image('web.img', base);
    await layers.image('web@copy.img', base, { state });
    await layers.delta('web@copy2.delta', newUuid(), new Map(), { state });
    await layers.delta('other.next', newUuid(), new Map());
    await layers.image('other@x.img', base);
    const before = filesOf(layers);
    expect(await recover(layers.directory, 'web')).toEqual([]);
    expect(filesOf(layers)).toEqual(before);
    expect((await layers.manifest('other@x.img')).sealed).toBeUndefined();
  });

  it('what somebody else writes to: it is not sealed', async () => {
    const layers = await Layers.make();
    const state = await layers.image('web@mon.img', base);
    await layers.delta('web.delta', state, new Map());
    await using file = await openLayer(layers.path('web@mon.img'));
    expect(tryLock(file.fd, 'exclusive')).toBe(true);
    expect(await recover(layers.directory, 'web')).toEqual([]);
    // A server keeps the lock on what was its top, until it ends.
    await using top = await openLayer(layers.path('web.delta'));
    expect(await recover(layers.directory, 'web', { live: top })).toEqual(['"web@mon.img" is sealed']);
    expect((await layers.manifest('web@mon.img')).snapshot).toMatchObject({ name: 'mon', consistency: 'crash' });
  });
});

describe('recover of a running container', () => {
  it('believes its server, which of the files is the top', async () => {
    const layers = await Layers.make();
    const state = await layers.image('web@mon.img', base, { sealed: true });
    await layers.delta('web.delta', state, changes);
    await layers.delta('web.next', state, new Map([[0, 1]]));
    await using top = await openLayer(layers.path('web.delta'));
    await using other = await openLayer(layers.path('web@mon.img'));
    await expectStopped(layers, /it runs on "web@mon.img", and its top is "web.delta"$/, { live: other });
    expect(await recover(layers.directory, 'web', { live: top })).toEqual(['"web.next" is gone']);
    await shell('mv', layers.path('web.delta'), layers.path('web@x.delta'));
    await layers.delta('web.next', state, new Map());
    await expectStopped(layers, /it runs on "web@x.delta", and its top is "missing"$/, { live: top });
  });
});

describe('unlinkNeedless', () => {
  async function scene() {
    const layers = await Layers.make();
    const state = await layers.image('web@mon.img', base, { sealed: true });
    const parent = await layers.delta(
      'web@~1.delta',
      state,
      new Map([
        [1, 1],
        [2, 2],
      ]),
    );
    await layers.delta('web.delta', parent, new Map([[1, 1]]));
    const find = async (fileName: string) => {
      const index = await layers.scan();
      return { index, file: index.files.find((file) => file.fileName === fileName) as IndexedFile };
    };
    const absorb = async () => {
      const { index, file } = await find('web@~1.delta');
      return unlinkNeedless(file, { why: 'absorbed', by: (await find('web.delta')).file, index });
    };
    const relink = async () => {
      await using file = await openDelta(layers.path('web.delta'), { write: true });
      await writeManifest(file, { ...file.manifest, parent: { state } });
    };
    return { layers, find, absorb, relink };
  }

  it('takes away what was absorbed, once the child has all of it and stands on what it stood on', async () => {
    const { layers, absorb, relink } = await scene();
    await expect(absorb()).rejects.toThrow('Cannot remove "web@~1.delta": "web.delta" stands on it');
    await relink();
    await expect(absorb()).rejects.toThrow('Cannot remove "web@~1.delta": "web.delta" lacks blocks of it');
    await layers.write('web.delta', new Map([[2, 2]]));
    await absorb();
    expect(filesOf(layers)).toEqual(['web.delta', 'web@mon.img']);
  });

  it('takes away what nobody stands on, nothing else, and nothing that was replaced', async () => {
    const { layers, find, relink } = await scene();
    const { index, file } = await find('web@~1.delta');
    await expect(unlinkNeedless(file, { why: 'childless', index })).rejects.toMatchObject({ code: 'ERR_LOOPBOX_CORRUPT' });
    await expect(unlinkNeedless(file, { why: 'prepared' })).rejects.toThrow('it is more than prepared');
    await expect(unlinkNeedless(file, { why: 'provided', by: file })).rejects.toThrow('does not hold its state');
    await relink();
    const now = await find('web@~1.delta');
    await shell('cp', file.path, layers.path('copy'));
    await shell('mv', layers.path('copy'), file.path);
    await expect(unlinkNeedless(now.file, { why: 'childless', index: now.index })).rejects.toThrow('it was replaced meanwhile');
    const replaced = await find('web@~1.delta');
    await unlinkNeedless(replaced.file, { why: 'childless', index: replaced.index });
    expect(filesOf(layers)).toEqual(['web.delta', 'web@mon.img']);
  });
});

describe('a seal', () => {
  it('does not refuse a slow copy that was begun before it, and ends after it', async () => {
    const layers = await Layers.make();
    const copy = await Layers.make();
    await layers.image('web@mon.img', base);
    const { output: head } = await execute('head', ['-c', '4096', layers.path('web@mon.img')]);
    await layers.seal('web@mon.img');
    await shell('cp', layers.path('web@mon.img'), copy.path('web@mon.img'));
    await overwrite(copy.path('web@mon.img'), 0, head);
    await using file = await openLayer(copy.path('web@mon.img'));
    expect(file).toMatchObject({ superblock: { readOnly: false }, manifest: { sealed: {} } });
    await verifySeal(file);
  });

  it('is set once, also after a cut, and tells what is known of the snapshot', async () => {
    const layers = await Layers.make();
    await layers.image('web@mon.img', base);
    const commit = { directory: layers.directory, name: 'web', extension: 'img' as const, kept: 'mon' };
    const snapshot = { name: 'mon', created: '2025-01-02T03:04:05Z', consistency: 'filesystem' as const, frozenMs: 1.5 };
    await sealKept(commit, snapshot);
    const sealed = await layers.manifest('web@mon.img');
    expect(sealed.snapshot).toEqual(snapshot);
    await sealKept(commit);
    expect(await layers.manifest('web@mon.img')).toEqual(sealed);
    await using file = await openLayer(layers.path('web@mon.img'), { write: true });
    await writeManifest(file, { ...sealed, sizeBytes: 4 * MiB });
    expect(await layers.view('web@mon.img')).toEqual(base);
  });
});
