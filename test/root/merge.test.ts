import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { link, open } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { flatten } from '../../src/image/flatten';
import { reclaim, reclaimSteps } from '../../src/image/reclaim';
import { recover } from '../../src/image/recover';
import { settle } from '../../src/image/settle';
import { KiB, MiB } from '../../src/units';
import { execute, plainEnvironment, seededRandom, shell, smallFileSystem, soakCount, temporaryDirectory } from '../fixtures';
import { ChainWorld, cutAfter, expectPlain, randomBlocks, randomWorld } from './chain-world';
import { overwrite } from '../image-workshop';
import { block, type Disk, diskBytes, emptyDisk, Layers, withBlocks } from './layers';

function blocksOf(...indexes: number[]): Map<number, number> {
  return new Map(indexes.map((index) => [index, index + 1]));
}

function someDisk(): Disk {
  return withBlocks(emptyDisk(), blocksOf(0, 1, 2, 700));
}

/** A nameless image, a nameless delta on it, and the present. */
async function plainWorld(): Promise<ChainWorld> {
  const world = await ChainWorld.make();
  const root = await world.image('web@~1.img', someDisk());
  const middle = await world.delta('web@~2.delta', root, blocksOf(0, 2, 5, 300));
  await world.delta('web.delta', middle, blocksOf(0, 5, 6));
  return world;
}

function startMerge(directory: string, verb: string) {
  return spawn(process.execPath, [join(import.meta.dirname, 'merge-child.cjs'), directory, verb], {
    env: plainEnvironment(),
    stdio: ['ignore', 'pipe', 'inherit'],
  });
}

describe('a merge', () => {
  it.each(['reclaim', 'settle', 'flatten'])(
    '%s is killed at any moment: every state is what it was, and it comes through at last',
    async (verb) => {
      const seeded = seededRandom();
      for (let round = 0; round < soakCount(20); round++) {
        const world = await randomWorld(seeded);
        for (let kills = 0; ; kills++) {
          const child = startMerge(world.layers.directory, verb);
          const ended = once(child, 'close');
          if (kills < 12) {
            await Promise.race([sleep(90 + seeded.below(150)), ended]);
            child.kill('SIGKILL');
          }
          const [code] = (await ended) as [number | null];
          await world.expectAll({ recovered: false });
          await recover(world.layers.directory, 'web');
          expect(await recover(world.layers.directory, 'web')).toEqual([]);
          await world.expectAll();
          if (code === 0) break;
        }
        await expectPlain(world);
        await world.expectAll({ independent: true });
        if (verb !== 'reclaim') expect(world.names()).toContain('web.img');
      }
    },
  );

  it('waits where a stranger has the image open, or another name for it; the files are as they were', async () => {
    const world = await ChainWorld.make();
    const root = await world.image('web@~1.img', someDisk());
    await world.delta('web.delta', root, blocksOf(0, 5, 6));
    {
      await using _stranger = await open(world.layers.path('web@~1.img'));
      expect(await reclaim(world.context)).toMatchObject([
        { fileName: 'web@~1.img', reason: expect.stringContaining('is open elsewhere') },
      ]);
    }
    const other = join(await temporaryDirectory(), 'copy.img');
    await link(world.layers.path('web@~1.img'), other);
    expect(await reclaim(world.context)).toMatchObject([{ fileName: 'web@~1.img' }]);
    expect(world.names()).toEqual(['web.delta', 'web@~1.img']);
    expect(await recover(world.layers.directory, 'web')).toEqual([]);
    await world.expectAll({ independent: true });
    await shell('rm', other);
    expect(await reclaim(world.context)).toEqual([]);
    expect(world.names()).toEqual(['web.img']);
    await world.expectAll({ independent: true });
  });

  it('absorbs under the eyes of a reader: nothing is punched then, and the reader sees what it saw', async () => {
    const world = await ChainWorld.make();
    const template = await Layers.make();
    const state = await template.image('base.img', someDisk(), { sealed: true });
    const context = { ...world.context, templatesDirectory: template.directory };
    const root = { fileName: 'base.img', state, disk: someDisk() };
    const middle = await world.delta('web@~2.delta', root, blocksOf(0, 2, 5, 300));
    await world.delta('web.delta', middle, blocksOf(0, 5, 6));
    const view = () => world.layers.chain('web.delta', false, template.directory);
    const before = await shell('sha256sum', world.layers.path('web@~2.delta'));
    await using reader = await open(world.layers.path('web@~2.delta'));
    expect(await reclaim(context)).toEqual([]);
    expect(world.names()).toEqual(['web.delta']);
    expect(await shell('sh', '-c', `sha256sum < /proc/${process.pid}/fd/${reader.fd}`)).toBe(before.replace(/ .*/, '  -'));
    await using chain = await view();
    expect(chain.layers.map(({ path }) => path.split('/').at(-1))).toEqual(['base.img', 'web.delta']);
    expect(await settle(context)).toEqual([]);
    expect(world.names()).toEqual(['web.delta']);
    await chain.close();
    expect(await flatten(context)).toEqual([]);
    expect(world.names()).toEqual(['web.img']);
    await world.expectAll({ independent: true });
  });

  it('leaves a state alone that another container stands on', async () => {
    const world = await plainWorld();
    const { state } = await world.layers.manifest('web@~1.img');
    await world.layers.delta('other.delta', state, blocksOf(9));
    expect(await reclaim(world.context)).toEqual([]);
    // The delta between is merged into the present; the image is the other's, too.
    expect(world.names()).toEqual(['other.delta', 'web.delta', 'web@~1.img']);
    expect(await settle(world.context)).toMatchObject([{ fileName: 'web@~1.img', reason: '"other.delta" stands on "web@~1.img"' }]);
    await world.expectAll({ independent: true });
    expect(await world.layers.view('other.delta')).toEqual(withBlocks(someDisk(), blocksOf(9)));
  });

  it('refuses what was changed since it was sealed, by name', async () => {
    const world = await plainWorld();
    await world.layers.write('web@~2.delta', blocksOf(77));
    await expect(reclaim(world.context)).rejects.toMatchObject({
      code: 'ERR_LOOPBOX_CORRUPT',
      message: expect.stringContaining('web@~2.delta'),
    });
    expect(world.names()).toEqual(['web.delta', 'web@~1.img', 'web@~2.delta']);
  });

  it('folds a larger source whole, though a batch ends behind the end that the image had', async () => {
    const world = await ChainWorld.make({ batchBytes: 64 * KiB });
    const size = 2 * diskBytes;
    const root = await world.image('web@~1.img', someDisk());
    const last = new Map(Array.from({ length: 64 }, (_, index) => [diskBytes / block + index * 7, index + 1]));
    await world.delta('web.delta', root, new Map([...blocksOf(0, 5), ...last]), size);
    expect(await settle(world.context)).toEqual([]);
    expect(world.names()).toEqual(['web.img']);
    await world.expectAll({ independent: true });
  });

  it('goes on where a cut has torn the image in the middle of its superblock', async () => {
    const world = await ChainWorld.make();
    const root = await world.image('web@~1.img', someDisk());
    await world.delta('web.delta', root, blocksOf(0, 5, 6));
    const { step } = await cutAfter(reclaimSteps(world.context, new Map()), 4);
    expect(step).toBe('it is told what is to be done');
    await overwrite(world.layers.path('web@~2.fold'), KiB + 512, Buffer.from('torn'));
    await world.expectAll({ independent: true });
    expect(await recover(world.layers.directory, 'web')).toEqual([]);
    expect(await reclaim(world.context)).toEqual([]);
    await world.expectAll({ independent: true });
  });

  it('stops at an abort, and goes on later', async () => {
    const world = await randomWorld(seededRandom(), { batchBytes: 64 * 1024 });
    const stop = new AbortController();
    const context = { ...world.context, signal: stop.signal, pause: async () => stop.abort() };
    await settle(context).catch((error: unknown) => expect(error).toMatchObject({ name: 'AbortError' }));
    await world.expectAll();
    expect(await settle(world.context)).toEqual([]);
    await world.expectAll({ independent: true });
  });

  it('gives space back on the way, and needs next to none to fold', async () => {
    const directory = await smallFileSystem(48 * MiB);
    const world = await ChainWorld.make({}, directory);
    const random = seededRandom();
    const size = 16 * MiB;
    const full = (from: number) => new Map(Array.from({ length: size / 4096 }, (_, index) => [index, index ? from + index : 0]));
    const root = await world.image('web@~1.img', withBlocks(emptyDisk(size), full(1), size));
    const middle = await world.delta('web@~2.delta', root, full(100_000), size);
    await world.delta('web.delta', middle, randomBlocks(random, size), size);
    await execute('dd', ['if=/dev/zero', `of=${join(directory, 'filler')}`, 'bs=64k']);
    // Holes make more extents of an image, which the host's file system may need a block for.
    await shell('truncate', '-s', '-64K', join(directory, 'filler'));
    expect(await reclaim(world.context)).toEqual([]);
    expect(world.names().filter((name) => name.startsWith('web'))).toEqual(['web.img']);
    await world.expectAll();
  });

  it('waits where the host is full, readable all the time, and goes on when there is space', async () => {
    const directory = await smallFileSystem(48 * MiB);
    const world = await ChainWorld.make({}, directory);
    const size = 8 * MiB;
    const full = (from: number) => new Map(Array.from({ length: size / 4096 }, (_, index) => [index, index ? from + index : 0]));
    const root = await world.image('web@mon.img', withBlocks(emptyDisk(size), full(1), size));
    await world.delta('web.delta', root, full(100_000), size);
    await execute('dd', ['if=/dev/zero', `of=${join(directory, 'filler')}`, 'bs=64k']);
    const pending = await settle(world.context);
    expect(pending).toMatchObject([{ reason: expect.stringContaining('no space') }]);
    await recover(directory, 'web');
    await world.expectAll();
    await shell('rm', join(directory, 'filler'));
    expect(await settle(world.context)).toEqual([]);
    await world.expectAll({ independent: true });
  });
});
