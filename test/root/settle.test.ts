import { describe, expect, it } from 'vitest';
import type { PendingFile } from '../../src/image/reclaim';
import { recover } from '../../src/image/recover';
import { settle, settleSteps } from '../../src/image/settle';
import { KiB, MiB } from '../../src/units';
import { SeededRandom, seededRandom, soakCount } from '../fixtures';
import { type ChainWorld, cutAfter, expectPlain, randomWorld } from './chain-world';

function settling({ context }: ChainWorld): AsyncGenerator<string> {
  return settleSteps(context, new Map<string, PendingFile>());
}

/** The present in one image, and beside it a delta for each snapshot. */
async function expectSettled(world: ChainWorld): Promise<void> {
  await expectPlain(world);
  expect(world.names()).toEqual(expect.arrayContaining(['web.img']));
  expect(world.names().filter((name) => name.endsWith('.img'))).toEqual(['web.img']);
  const named = world.names().filter((name) => !name.includes('~'));
  expect(named).toEqual([...world.wanted.keys()].map((name) => (name === 'web' ? 'web.img' : `${name}.delta`)).sort());
}

describe('settle', () => {
  it('leaves the present in one image and each snapshot in a delta', async () => {
    const random = seededRandom();
    for (let round = 0; round < soakCount(40); round++) {
      const world = await randomWorld(random, { batchBytes: random.pick([64 * KiB, MiB]) });
      expect(await settle(world.context)).toEqual([]);
      await expectSettled(world);
      await world.expectAll({ independent: true });
      const names = world.names();
      expect(await recover(world.layers.directory, 'web')).toEqual([]);
      expect(await settle(world.context)).toEqual([]);
      expect(world.names()).toEqual(names);
    }
  });

  it('is cut after any of its steps: every state is what it was then, after recover, and when settle has come through', async () => {
    const random = seededRandom();
    for (let round = 0; round < soakCount(20); round++) {
      const seed = random.below(2 ** 30);
      const steps = (await cutAfter(settling(await randomWorld(new SeededRandom(seed))), Infinity)).taken;
      for (let cuts = 0; cuts < soakCount(100); cuts++) {
        const at = random.below(steps + 1);
        const world = await randomWorld(new SeededRandom(seed));
        const { step } = await cutAfter(settling(world), at);
        try {
          await world.expectAll({ recovered: false });
          await recover(world.layers.directory, 'web');
          expect(await recover(world.layers.directory, 'web')).toEqual([]);
          await world.expectAll();
          expect(await settle(world.context)).toEqual([]);
          await expectSettled(world);
          await world.expectAll();
        } catch (error) {
          throw new Error(`seed ${seed}, cut after step ${at}, "${step}": ${world.names().join(' ')}`, { cause: error });
        }
      }
    }
  });
});
