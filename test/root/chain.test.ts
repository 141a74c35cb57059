import { mkdir, symlink, writeFile } from 'node:fs/promises';
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { readBlocks, resolveChain } from '../../src/image/chain';
import { openDelta } from '../../src/image/delta-file';
import { openLayer } from '../../src/image/layer-file';
import { makeFileSystem } from '../../src/image/make-filesystem';
import { noState } from '../../src/image/manifest';
import { NewFile } from '../../src/image/new-file';
import { ownBlock0 } from '../../src/image/own-block0';
import { forgetEvidence } from '../../src/image/mark';
import { sealNewImage } from '../../src/image/seal';
import { StateIndex } from '../../src/image/state-index';
import { parseSuperblock } from '../../src/image/superblock';
import { native } from '../../src/native';
import { MiB } from '../../src/units';
import { newUuid } from '../../src/uuid';
import { type SeededRandom, seededRandom, shell, soakCount, temporaryDirectory } from '../fixtures';
import { block, type Disk, diskBytes, diskOf, emptyDisk, folding, Layers, namesOf, withBlocks } from './layers';

let value = 0;

/** As what a merge writes to is: sealed, and not to be checked. */
const unchecked = { sealed: { lengthBytes: 2 * MiB + diskBytes } };

function someBlocks(random: SeededRandom, sizeBytes = diskBytes): Map<number, number> {
  const blocks = new Map<number, number>();
  for (let count = random.below(40); count > 0; count--) {
    const first = random.below(sizeBytes / block);
    const last = Math.min(first + random.below(20), sizeBytes / block);
    for (let index = first; index < last; index++) blocks.set(index, random.below(5) === 0 ? 0 : ++value);
  }
  return blocks;
}

function someDisk(random: SeededRandom, sizeBytes = diskBytes): Disk {
  return withBlocks(emptyDisk(sizeBytes), someBlocks(random, sizeBytes), sizeBytes);
}

async function viewOf(layers: Layers, fileName: string): Promise<Disk> {
  await using chain = await layers.chain(fileName);
  return diskOf(await readBlocks(chain, 0, chain.sizeBytes));
}

async function expectView(layers: Layers, fileName: string, disk: Disk): Promise<void> {
  expect(await viewOf(layers, fileName)).toEqual(disk);
  expect(await layers.view(fileName)).toEqual(disk);
}

async function failureOf(layers: Layers, fileName: string): Promise<unknown> {
  return layers.chain(fileName).then(
    (chain) => chain.close(),
    (error: unknown) => error,
  );
}

describe("a chain's view", () => {
  it('is that of the model and of the independent reader: random trees of deltas, sizes and forks', async () => {
    const random = seededRandom();
    for (let round = 0; round < soakCount(20); round++) {
      const layers = await Layers.make();
      const first = someDisk(random, random.pick([1, 2, 4]) * MiB);
      const nodes = [{ fileName: 'web@s0.img', disk: first, state: await layers.image('web@s0.img', first, { sealed: true }) }];
      for (let count = 1; count < 6; count++) {
        const parent = random.pick(nodes);
        const sizeBytes = random.pick([1, 3, 4, 6]) * MiB;
        const blocks = someBlocks(random, sizeBytes);
        const fileName = `web@s${count}.delta`;
        const state = await layers.delta(fileName, parent.state, blocks, { sizeBytes, sealed: random.below(2) === 0 });
        nodes.push({ fileName, state, disk: withBlocks(parent.disk, blocks, sizeBytes) });
      }
      for (const { fileName, disk } of nodes) await expectView(layers, fileName, disk);
    }
  });

  it('goes through a fold: the source below the cursor has no say, and what is kept stands on the image', async () => {
    const random = seededRandom();
    for (let round = 0; round < soakCount(20); round++) {
      const layers = await Layers.make();
      const [to, was, kept, image] = [newUuid(), newUuid(), newUuid(), someDisk(random)];
      const source = someBlocks(random);
      const cursor = random.below(diskBytes / block + 1);
      const present = withBlocks(image, source);
      // What the fold has done so far: blocks below the cursor have gone from the image to what is kept, and from the source to the image.
      const moved = new Map([...source].filter(([index]) => index < cursor));
      await layers.image('web@~1.fold', withBlocks(image, moved), folding(to, was, kept, cursor));
      await layers.delta('web@mon.delta', undefined, new Map([...moved.keys()].map((index) => [index, image[index] ?? 0])), {
        state: kept,
      });
      await layers.delta('web@~2.delta', was, source, { state: to, sealed: true });
      for (const index of moved.keys()) await punch(layers, 'web@~2.delta', index);
      const own = someBlocks(random);
      await layers.delta('web.delta', to, own);
      const fork = someBlocks(random);
      await layers.delta('web@fork.delta', kept, fork, { sealed: true });

      await expectView(layers, 'web@~2.delta', present);
      await expectView(layers, 'web.delta', withBlocks(present, own));
      await expectView(layers, 'web@mon.delta', image);
      await expectView(layers, 'web@fork.delta', withBlocks(image, fork));
    }
  });

  it('goes through a delta that is being absorbed', async () => {
    const layers = await Layers.make();
    const disk = withBlocks(
      emptyDisk(),
      new Map([
        [1, 1],
        [2, 2],
        [3, 3],
      ]),
    );
    const base = await layers.image('web@mon.img', disk, { sealed: true });
    const [to, was] = [newUuid(), newUuid()];
    // Block 2 is absorbed already, and gone from the parent.
    await layers.delta(
      'web@~1.fold',
      base,
      new Map([
        [2, 0],
        [3, 30],
      ]),
      folding(to, was),
    );
    await layers.delta('web@tue.delta', was, new Map([[2, 20]]), { state: to, manifest: unchecked });
    const own = new Map([[9, 9]]);
    await layers.delta('web.delta', to, own);
    await using chain = await layers.chain('web.delta');
    expect(chain.fold?.into.path).toBe(layers.path('web@~1.fold'));
    await expectView(layers, 'web.delta', withBlocks(disk, new Map([[2, 20], [3, 30], ...own])));
  });

  it('is that of a state, whoever provides it: moved, renamed, copied, a whole image, the sealed of two', async () => {
    const layers = await Layers.make();
    const elsewhere = await temporaryDirectory();
    const random = seededRandom();
    const disk = someDisk(random);
    const state = await layers.image('web@mon.img', disk, { sealed: true });
    const blocks = someBlocks(random);
    await layers.delta('web.delta', state, blocks);
    const wanted = withBlocks(disk, blocks);
    await shell('mv', layers.path('web@mon.img'), layers.path('some other name'));
    await expectView(layers, 'web.delta', wanted);
    // One that was not sealed yet when it was copied holds something else by now.
    await layers.image('a.img', someDisk(random), { state });
    await layers.delta('b@x.delta', newUuid(), new Map(), { state });
    await expectView(layers, 'web.delta', wanted);
    await shell('mv', layers.path('some other name'), elsewhere);
    await shell('rm', layers.path('a.img'), layers.path('b@x.delta'));
    await expect(failureOf(layers, 'web.delta')).resolves.toMatchObject({ code: 'ERR_LOOPBOX_CORRUPT' });
    await using chain = await layers.chain('web.delta', false, elsewhere);
    expect(diskOf(await readBlocks(chain, 0, chain.sizeBytes))).toEqual(wanted);
    // A delta of a state may have been emptied into the image of that state.
    await layers.delta('web@tue.delta', newUuid(), new Map([[3, 12345]]), { state, sealed: true });
    await layers.image('web@~1.fold', disk, { state, sealed: true });
    await expectView(layers, 'web.delta', wanted);
  });

  it('opens what is the container’s own for writing, and nothing else', async () => {
    const layers = await Layers.make();
    const base = await layers.image('base.img', emptyDisk(), { sealed: true });
    const lower = await layers.delta('web@mon.delta', base, new Map(), { sealed: true });
    await layers.delta('web.delta', lower, new Map());
    for (const write of [true, false]) {
      await using chain = await layers.chain('web.delta', write);
      expect(namesOf(chain.layers)).toEqual(['base.img', 'web@mon.delta', 'web.delta']);
      expect(chain.layers.map(({ fd }) => isWritable(fd))).toEqual([false, write, write]);
    }
  });
});

describe('a chain is refused, by name,', () => {
  it('where a parent is missing; what the hint names is never opened', async () => {
    const layers = await Layers.make();
    await writeFile(layers.path('secret'), 'not for reading');
    await symlink(layers.path('secret'), layers.path('link.img'));
    await mkdir(layers.path('directory.img'));
    await shell('mkfifo', layers.path('fifo.img'));
    for (const hint of ['base.img', 'link.img', 'directory.img', 'fifo.img', '../../etc/passwd', layers.path('secret'), '\u001b[2J']) {
      await layers.delta('web.delta', newUuid(), new Map(), { manifest: { parent: { state: newUuid(), hint } } });
      expect(await failureOf(layers, 'web.delta')).toMatchObject({
        code: 'ERR_LOOPBOX_CORRUPT',
        message: expect.stringMatching(/^Cannot open ".*web.delta": it needs ".*" \(state [0-9a-f-]+\), which is not here$/s),
        hint: `copy "${hint}" to ${layers.directory}`,
      });
      await shell('rm', layers.path('web.delta'));
    }
    await layers.delta('web.delta', undefined, new Map());
    expect(await failureOf(layers, 'web.delta')).toMatchObject({ message: expect.stringMatching(/does not say what it stands on$/) });
  });

  it('where the parent is there, but damaged', async () => {
    const layers = await Layers.make();
    const state = await layers.image('what.img', emptyDisk(), { sealed: true });
    await layers.delta('web.delta', state, new Map());
    await shell('truncate', '-s', '1M', layers.path('what.img'));
    expect(await failureOf(layers, 'web.delta')).toMatchObject({
      code: 'ERR_LOOPBOX_CORRUPT',
      message: expect.stringMatching(/it needs "what.img": Cannot open ".*": it is cut short/),
    });
  });

  it('where it goes in a circle, or stands on itself', async () => {
    const layers = await Layers.make();
    const [one, two] = [newUuid(), newUuid()];
    await layers.delta('a.delta', two, new Map(), { state: one, sealed: true });
    await layers.delta('b.delta', one, new Map(), { state: two, sealed: true });
    expect(await failureOf(layers, 'a.delta')).toMatchObject({
      code: 'ERR_LOOPBOX_CORRUPT',
      message: expect.stringMatching(/"a.delta" stands on itself$/),
    });
    await layers.delta('c.delta', noState.replace('0', 'c'), new Map(), { state: noState.replace('0', 'c') });
    expect(await failureOf(layers, 'c.delta')).toMatchObject({ code: 'ERR_LOOPBOX_CORRUPT' });
  });

  it('where it has more than 126 deltas', async () => {
    const layers = await Layers.make();
    let state = await layers.image('web@s.img', emptyDisk(MiB), { sealed: true });
    for (let count = 1; count <= 127; count++) state = await layers.delta(`web@s${count}.delta`, state, new Map(), { sizeBytes: MiB });
    await using chain = await layers.chain('web@s126.delta');
    expect(chain.layers.length).toBe(127);
    expect(await failureOf(layers, 'web@s127.delta')).toMatchObject({
      code: 'ERR_LOOPBOX_CORRUPT',
      message: expect.stringMatching(/more than 126 deltas/),
    });
  });

  it('where a sealed delta was changed, not where its evidence was put aside', async () => {
    const layers = await Layers.make();
    const base = await layers.image('web@s.img', emptyDisk(), { sealed: true });
    const state = await layers.delta('web@mon.delta', base, new Map([[1, 1]]), { sealed: true });
    await layers.delta('web.delta', state, new Map());
    await layers.write('web@mon.delta', new Map([[2, 2]]));
    expect(await failureOf(layers, 'web.delta')).toMatchObject({
      code: 'ERR_LOOPBOX_CORRUPT',
      message: expect.stringMatching(/^Cannot use ".*web@mon.delta": its map was changed after it was sealed$/),
    });
    await using delta = await openLayer(layers.path('web@mon.delta'), { write: true });
    await forgetEvidence(delta);
    await expectView(
      layers,
      'web.delta',
      withBlocks(
        emptyDisk(),
        new Map([
          [1, 1],
          [2, 2],
        ]),
      ),
    );
  });

  it('where somebody is about to replace a file of it', async () => {
    const layers = await Layers.make();
    const state = await layers.image('web@s.img', emptyDisk(), { sealed: true });
    await layers.delta('web.delta', state, new Map());
    const index = await layers.scan();
    await shell('rm', layers.path('web@s.img'));
    await layers.image('web@s.img', emptyDisk(), { state: newUuid() });
    await expect(resolveChain(await openLayer(layers.path('web.delta')), index)).rejects.toMatchObject({
      code: 'ERR_LOOPBOX_IN_USE',
      message: expect.stringMatching(/"web@s.img" was replaced meanwhile$/),
    });
  });
});

describe('ownBlock0', () => {
  it('makes a delta writable that has a read-only block 0, or none', async () => {
    for (const blocks of [new Map<number, number>(), new Map([[9, 9]])]) {
      const layers = await Layers.make();
      const base = await layers.image('web@mon.img', withBlocks(emptyDisk(), new Map([[0, 5]])), { sealed: true });
      await layers.delta('web.delta', base, blocks);
      for (const round of ['first', 'again']) {
        await using chain = await layers.chain('web.delta', true);
        await ownBlock0(chain);
        const head = await readBlocks(chain, 0, block);
        expect([round, parseSuperblock(head.subarray(1024, 2048))?.readOnly, diskOf(head)]).toEqual([round, false, [5]]);
      }
      expect(await layers.view('web.delta')).toEqual(withBlocks(emptyDisk(), new Map([[0, 5], ...blocks])));
    }
  });
});

describe('fold', () => {
  it('means nothing outside of its container, or outside of the store', async () => {
    const layers = await Layers.make();
    const [to, base] = [newUuid(), newUuid()];
    await layers.image('web@~1.fold', withBlocks(emptyDisk(), new Map([[1, 7]])), folding(to, base, undefined, 100));
    await layers.image('base.img', emptyDisk(), { state: base, sealed: true });
    await layers.delta('other.delta', base, new Map([[1, 1]]), { state: to });
    expect(await viewOf(layers, 'other.delta')).toEqual(withBlocks(emptyDisk(), new Map([[1, 1]])));
    await layers.delta('web.delta', base, new Map([[1, 2]]), { state: to });
    expect(await viewOf(layers, 'web.delta')).toEqual(withBlocks(emptyDisk(), new Map([[1, 7]])));
    const index = await StateIndex.scan([layers.directory]);
    await using chain = await resolveChain(await openLayer(layers.path('web.delta')), index);
    expect(namesOf(chain.layers)).toEqual(['base.img', 'web.delta']);
  });
});

describe('a chain of a real file system', () => {
  it('takes copies of its files, and refuses a parent that was mounted writable, checked, or changed', async () => {
    const layers = await Layers.make();
    const path = layers.path('base.img');
    await using file = await NewFile.create(layers.directory);
    await makeFileSystem(file.fd, 128 * MiB);
    const manifest = { state: newUuid(), created: '2025-01-02T03:04:05Z', config: { environment: {}, limits: {}, labels: {} } };
    await sealNewImage(file.fd, 128 * MiB, { ...manifest, kind: 'image', sizeBytes: 128 * MiB });
    await file.publish(path);
    await layers.delta('web.delta', manifest.state, new Map(), { sizeBytes: 128 * MiB });
    await (await layers.chain('web.delta')).close();

    for (const copy of ['cp --sparse=never "$@"', 'cp --sparse=always "$@"', 'tar -C "${1%/*}" -Sc base.img web.delta | tar -C "$3" -x']) {
      const copied = await Layers.make();
      await shell('sh', '-c', copy, 'sh', path, layers.path('web.delta'), copied.directory);
      await (await copied.chain('web.delta')).close();
    }
    await shell('e2fsck', '-fn', path);
    await mounted(path, 'loop,ro');
    await (await layers.chain('web.delta')).close();

    for (const change of [
      async (copy: string) => shell('e2fsck', '-fy', copy),
      async (copy: string) => shell('tune2fs', '-L', 'label', copy),
      async (copy: string) => {
        await shell('tune2fs', '-O', '^read-only', copy);
        await mounted(copy, 'loop');
      },
      async (copy: string) => shell('truncate', '-s', '+1M', copy),
    ]) {
      const copy = await Layers.make();
      await shell('cp', '--sparse=always', path, layers.path('web.delta'), copy.directory);
      await change(copy.path('base.img'));
      expect(await failureOf(copy, 'web.delta')).toMatchObject({
        code: 'ERR_LOOPBOX_CORRUPT',
        message: expect.stringMatching(/^Cannot use ".*base.img": its (file system|length) was changed after it was sealed$/),
      });
    }
  });
});

async function mounted(path: string, options: string): Promise<void> {
  const target = await temporaryDirectory();
  await shell('mount', '-o', options, path, target);
  await shell('umount', target);
}

async function punch(layers: Layers, fileName: string, index: number): Promise<void> {
  await using file = await openDelta(layers.path(fileName), { write: true });
  await native().punchHole(file.fd, file.dataOffset + index * block, block);
}

function isWritable(fd: number): boolean {
  const [, flags = ''] = /^flags:\s+(\d+)$/m.exec(readFileSync(`/proc/self/fdinfo/${fd}`, 'utf8')) ?? [];
  return (Number.parseInt(flags, 8) & 3) === 2;
}
