import { link, open, rename } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { drawState } from '../../src/container/replace-top';
import { openLayer } from '../../src/image/layer-file';
import { reclaim, reclaimSteps } from '../../src/image/reclaim';
import { recover } from '../../src/image/recover';
import { settle, settleSteps } from '../../src/image/settle';
import { KiB, MiB } from '../../src/units';
import { newUuid } from '../../src/uuid';
import { shell, temporaryDirectory } from '../fixtures';
import { ChainWorld } from './chain-world';
import { emptyDisk, folding, withBlocks } from './layers';

const disk = withBlocks(emptyDisk(), valued(0, 1, 2, 700));

function valued(...indexes: number[]): Map<number, number> {
  return new Map(indexes.map((index) => [index, index + 1]));
}

function reclaiming({ context }: ChainWorld): AsyncGenerator<string> {
  return reclaimSteps(context, new Map());
}

function settling({ context }: ChainWorld): AsyncGenerator<string> {
  return settleSteps(context, new Map());
}

/** Goes on until a step of this name was taken, as a kill after it would leave all. */
async function cutAt(steps: AsyncGenerator<string>, name: string): Promise<void> {
  for (let next = await steps.next(); next.value !== name; next = await steps.next()) expect(next.done, name).toBe(false);
  await steps.return(undefined);
}

/** Copies a file away. What is returned puts the copy in its place; and what that returns, the file itself again. */
async function backUp(world: ChainWorld, fileName: string): Promise<() => Promise<() => Promise<void>>> {
  const [path, directory] = [world.layers.path(fileName), await temporaryDirectory()];
  await shell('cp', path, join(directory, 'backup'));
  return async () => {
    await rename(path, join(directory, 'itself'));
    await shell('cp', join(directory, 'backup'), path);
    return async () => rename(join(directory, 'itself'), path);
  };
}

async function expectRefused(world: ChainWorld, ...fileNames: string[]): Promise<void> {
  for (const fileName of fileNames)
    await expect(world.layers.chain(fileName)).rejects.toMatchObject({ code: 'ERR_LOOPBOX_CORRUPT', message: /another copy of the file/ });
  await expect(settle(world.context)).rejects.toMatchObject({ code: 'ERR_LOOPBOX_CORRUPT', message: /is another copy of/ });
}

describe('a backup of a file that is being merged, put back in the middle, is refused:', () => {
  it('of what absorbs its parent', async () => {
    const world = await ChainWorld.make({ batchBytes: 64 * KiB });
    const root = await world.image('web@s.img', disk);
    const parent = await world.delta('web@~1.delta', root, valued(0, 2, 5, 300));
    const child = await world.delta('web@mon.delta', parent, valued(0, 7));
    await world.delta('web.delta', child, valued(0, 9));
    const putBack = await backUp(world, 'web@mon.delta');
    await cutAt(reclaiming(world), 'the parent gives space back');
    const undo = await putBack();
    await recover(world.layers.directory, 'web');
    await expectRefused(world, 'web@mon.delta', 'web.delta');
    await undo();
    expect(await reclaim(world.context)).toEqual([]);
    await world.expectAll({ independent: true });
  });

  it('of what is folded, from before it absorbed another', async () => {
    const world = await ChainWorld.make();
    const root = await world.image('web@s.img', disk);
    const parent = await world.delta('web@~1.delta', root, valued(0, 2, 5, 300));
    const child = await world.delta('web@mon.delta', parent, valued(0, 7));
    await world.delta('web.delta', child, valued(0, 9));
    const putBack = await backUp(world, 'web@mon.delta');
    await cutAt(settling(world), 'it is told what is to be done');
    const undo = await putBack();
    await expectRefused(world, 'web@mon.delta', 'web.delta');
    await undo();
    expect(await settle(world.context)).toEqual([]);
    await world.expectAll({ independent: true });
  });

  it('of what is kept', async () => {
    const world = await ChainWorld.make({ batchBytes: 64 * KiB });
    const root = await world.image('web@~1.img', disk);
    await world.delta('web@mon.delta', root, valued(0, 7));
    await world.delta('web.delta', root, valued(0, 1, 2, 300));
    const putBack = await backUp(world, 'web@mon.delta');
    await cutAt(settling(world), 'the cursor has moved');
    const undo = await putBack();
    await expectRefused(world, 'web@mon.delta');
    await undo();
    expect(await settle(world.context)).toEqual([]);
    await world.expectAll({ independent: true });
  });
});

describe('a fold', () => {
  it.each([
    ['web@mon.img', 'the image is hidden'],
    ['web@mon.img', 'what is kept has its name'],
    ['web@mon.img', 'what is kept may be written to'],
    ['web@~1.img', 'the image is hidden'],
    ['web@~1.img', 'what is kept may be written to'],
  ])('into %s that is cut before it is told of (%s) has written nothing, and recover gives the image a name again', async (kept, step) => {
    const world = await ChainWorld.make();
    const root = await world.image(kept, disk);
    if (kept === 'web@~1.img') await world.delta('web@mon.delta', root, valued(0, 3));
    await world.delta('web.delta', root, valued(0, 5, 6));
    const before = await shell('sha256sum', world.layers.path(kept));
    await cutAt(settling(world), step);
    await recover(world.layers.directory, 'web');
    expect(await recover(world.layers.directory, 'web')).toEqual([]);
    const image = world.names().find((name) => name.endsWith('.img')) ?? '';
    if (kept === 'web@mon.img') expect(world.names()).toEqual(['web.delta', kept]);
    expect((await shell('sha256sum', world.layers.path(image))).split(' ')[0]).toBe(before.split(' ')[0]);
    await world.expectAll({ independent: true });
  });

  it('that was cut does not go on while somebody has another name for the image, which stays as it is', async () => {
    const world = await ChainWorld.make({ batchBytes: 64 * KiB });
    const root = await world.image('web@~1.img', disk);
    await world.delta('web.delta', root, valued(0, 5, 6, 300));
    await cutAt(reclaiming(world), 'it is told what is to be done');
    const backup = join(await temporaryDirectory(), 'backup');
    await link(world.layers.path('web@~2.fold'), backup);
    const before = await shell('sha256sum', backup);
    expect(await reclaim(world.context)).toMatchObject([{ fileName: 'web@~2.fold', reason: expect.stringContaining('has another name') }]);
    expect(await shell('sha256sum', backup)).toBe(before);
    await world.expectAll({ independent: true });
    await shell('rm', backup);
    expect(await reclaim(world.context)).toEqual([]);
    await world.expectAll({ independent: true });
  });

  it('of a shorter disk into a longer image ends as long as the disk was; what is kept has all of the longer one', async () => {
    const world = await ChainWorld.make();
    const root = await world.image('web@mon.img', disk);
    await world.delta('web.delta', root, valued(0, 5), 2 * MiB);
    for (const step of ['its new end has a manifest', undefined]) {
      if (step) await cutAt(settling(world), step);
      else expect(await settle(world.context)).toEqual([]);
      await recover(world.layers.directory, 'web');
      await world.expectAll({ independent: true });
    }
    await using image = await openLayer(world.layers.path('web.img'));
    expect(image).toMatchObject({ sizeBytes: 2 * MiB, fileSizeBytes: 2 * MiB + 64 * KiB });
  });
});

describe('an absorb', () => {
  it('waits while somebody copies the sealed file that it writes to', async () => {
    const world = await ChainWorld.make();
    const root = await world.image('web@s.img', disk);
    const parent = await world.delta('web@~1.delta', root, valued(0, 2, 5, 300));
    const child = await world.delta('web@mon.delta', parent, valued(0, 7));
    await world.delta('web.delta', child, valued(0, 9));
    const before = await world.layers.manifest('web@mon.delta');
    {
      await using _copier = await open(world.layers.path('web@mon.delta'));
      expect(await reclaim(world.context)).toMatchObject([{ reason: '"web@mon.delta" is open elsewhere' }]);
      expect(await world.layers.manifest('web@mon.delta')).toEqual(before);
    }
    expect(await reclaim(world.context)).toEqual([]);
    expect(world.names()).toEqual(['web.delta', 'web@mon.delta', 'web@s.img']);
    await world.expectAll({ independent: true });
  });

  it('goes on when what it writes to has been frozen meanwhile, as by a start', async () => {
    const world = await ChainWorld.make({ batchBytes: 64 * KiB });
    const root = await world.image('web@s.img', disk);
    const parent = await world.delta('web@~1.delta', root, valued(0, 2, 5, 300));
    const top = await world.delta('web.delta', parent, valued(0, 9));
    await cutAt(reclaiming(world), 'the parent gives space back');
    await rename(world.layers.path('web.delta'), world.layers.path('web@~8.delta'));
    await world.layers.seal('web@~8.delta');
    const { state } = await world.layers.manifest('web@~8.delta');
    await world.delta('web.delta', { ...top, state }, valued(0));
    await world.expectAll({ independent: true });
    expect(await settle(world.context)).toEqual([]);
    expect(world.names()).toEqual(['web.img', 'web@s.delta']);
    await world.expectAll({ independent: true });
  });

  it('into an unsealed file gives that a new state: a copy of it from before stands on nothing', async () => {
    const world = await ChainWorld.make();
    const root = await world.image('web@s.img', disk);
    const parent = await world.delta('web@~1.delta', root, valued(0, 2, 5, 300));
    await world.delta('web.delta', parent, valued(0, 9));
    const { state } = await world.layers.manifest('web.delta');
    await cutAt(reclaiming(world), 'a batch is copied');
    expect((await world.layers.manifest('web.delta')).state).not.toBe(state);
    await world.expectAll();
  });
});

describe('a state', () => {
  it('is provided by sealed files, and by what a commit has yet to seal of the same container', async () => {
    const world = await ChainWorld.make();
    const state = await world.layers.image('other.img', disk);
    await world.layers.delta('web.delta', state, valued(0));
    await expect(world.layers.chain('web.delta')).rejects.toMatchObject({ message: /which is not here$/ });
    await world.layers.image('web@mon.img', disk, { state });
    await (await world.layers.chain('web.delta')).close();
  });

  it('is drawn anew before a present is frozen, unless a merge names it', async () => {
    const world = await ChainWorld.make();
    const state = await world.layers.delta('web.delta', await world.layers.image('web@s.img', disk, { sealed: true }), valued(0));
    const draw = async () => {
      await using top = await openLayer(world.layers.path('web.delta'), { write: true });
      return await drawState(top);
    };
    const drawn = await draw();
    expect(drawn).not.toBe(state);
    expect((await world.layers.manifest('web.delta')).state).toBe(drawn);
    await world.layers.delta('web@~1.fold', newUuid(), valued(0), folding(drawn, newUuid()));
    expect(await draw()).toBe(drawn);
  });
});
