import { describe, expect, it } from 'vitest';
import { openLayer } from '../../src/image/layer-file';
import { type PendingFile, reclaim, reclaimSteps } from '../../src/image/reclaim';
import { recover } from '../../src/image/recover';
import { KiB, MiB } from '../../src/units';
import { SeededRandom, seededRandom, soakCount } from '../fixtures';
import { ChainWorld, cutAfter, expectPlain, randomWorld } from './chain-world';
import { emptyDisk, withBlocks } from './layers';

function reclaimable({ context }: ChainWorld): AsyncGenerator<string> {
  return reclaimSteps(context, new Map<string, PendingFile>());
}

describe('reclaim', () => {
  it('merges what has no name into what stands on it, and every state stays what it was', async () => {
    const random = seededRandom();
    for (let round = 0; round < soakCount(40); round++) {
      const world = await randomWorld(random, { batchBytes: random.pick([64 * KiB, MiB]) });
      await world.expectAll({ independent: true });
      expect(await reclaim(world.context)).toEqual([]);
      await expectPlain(world);
      await world.expectAll({ independent: true });
      const names = world.names();
      expect(await recover(world.layers.directory, 'web')).toEqual([]);
      expect(await reclaim(world.context)).toEqual([]);
      expect(world.names()).toEqual(names);
    }
  });

  it('is cut after any of its steps: every state is what it was then, after recover, and when reclaim has come through', async () => {
    const random = seededRandom();
    for (let round = 0; round < soakCount(20); round++) {
      const seed = random.below(2 ** 30);
      const steps = (await cutAfter(reclaimable(await randomWorld(new SeededRandom(seed))), Infinity)).taken;
      for (let cuts = 0; cuts < soakCount(100); cuts++) {
        const at = random.below(steps + 1);
        const world = await randomWorld(new SeededRandom(seed));
        const { step } = await cutAfter(reclaimable(world), at);
        try {
          await world.expectAll({ recovered: false });
          await recover(world.layers.directory, 'web');
          expect(await recover(world.layers.directory, 'web')).toEqual([]);
          await world.expectAll();
          expect(await reclaim(world.context)).toEqual([]);
          await expectPlain(world);
          await world.expectAll();
        } catch (error) {
          throw new Error(`seed ${seed}, cut after step ${at}, "${step}": ${world.names().join(' ')}`, { cause: error });
        }
      }
    }
  });

  it('empties a source without a name only behind its cursor: cut after each step, nothing is lost', async () => {
    const disk = withBlocks(emptyDisk(), new Map([[0, 1]]));
    const blocks = new Map(Array.from({ length: 24 }, (_, index): [number, number] => [index, 100 + index]));
    let emptied = 0;
    for (let at = 0, isLast = false; !isLast; at++) {
      const world = await ChainWorld.make({ batchBytes: 64 * KiB });
      const image = await world.image('web@~0.img', disk);
      const source = await world.delta('web@~1.delta', image, blocks);
      // Both stand on it, so that the fold is the last thing to be done.
      await world.delta('web@mon.delta', source, new Map([[0, 2]]));
      await world.delta('web.delta', source, new Map([[0, 3]]));
      const { taken, step } = await cutAfter(reclaimable(world), at);
      isLast = taken < at;
      if (step === 'the source gives space back') emptied++;
      await world.expectAll({ recovered: false });
      await recover(world.layers.directory, 'web');
      await world.expectAll();
    }
    expect(emptied).toBeGreaterThan(1);
  });

  it('keeps the image that it folds into read-only for stock tools: cut after each step, and at the end only where something stands on it', async () => {
    for (const kept of [true, false]) {
      let folding = 0;
      for (let at = 0, isLast = false; !isLast; at++) {
        const world = await ChainWorld.make({ batchBytes: 64 * KiB });
        const image = await world.image('web@~0.img', withBlocks(emptyDisk(), new Map([[0, 1]])));
        const source = await world.delta(
          kept ? 'web@~1.delta' : 'web.delta',
          image,
          new Map([
            [0, 2],
            [40, 3],
          ]),
        );
        if (kept) await world.delta('web.delta', source, new Map([[0, 4]]));
        if (kept) await world.delta('web@mon.delta', source, new Map([[0, 5]]));
        isLast = (await cutAfter(reclaimable(world), at)).taken < at;
        for (const path of world
          .names()
          .filter((name) => name.endsWith('.fold'))
          .map((name) => world.layers.path(name))) {
          await using file = await openLayer(path, { label: path });
          if (!file.manifest?.fold) continue;
          folding++;
          expect(file.kind === 'image' && file.superblock.readOnly, `cut after step ${at}`).toBe(true);
        }
        if (!isLast) continue;
        const [name = ''] = world.names().filter((one) => one.endsWith('.img'));
        await using whole = await openLayer(world.layers.path(name), { label: name });
        expect(whole.kind === 'image' && whole.superblock.readOnly).toBe(kept);
      }
      expect(folding).toBeGreaterThan(1);
    }
  });
});
