import { describe, expect, it } from 'vitest';
import { type PendingFile, reclaim, reclaimSteps } from '../../src/image/reclaim';
import { recover } from '../../src/image/recover';
import { KiB, MiB } from '../../src/units';
import { SeededRandom, seededRandom, soakCount } from '../fixtures';
import { type ChainWorld, cutAfter, expectPlain, randomWorld } from './chain-world';

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
});
