import { expect, it } from 'vitest';
import { SeededRandom, seededRandom, soakCount } from '../fixtures';
import { FileWorld } from '../random-chains/files';
import { World } from '../random-chains/world';

interface RandomWorld {
  readonly counts: Record<string, number>;
  step(): Promise<void>;
  expectAll(): Promise<void>;
}

/** Does so many steps with each of ten seeds, and compares all that is there at the end; with one in the suite. */
async function run(count: number, create: (random: SeededRandom) => Promise<RandomWorld>): Promise<void> {
  const { seed } = seededRandom();
  for (let round = 0; round < soakCount(10); round++) {
    const world = await create(new SeededRandom(seed + round));
    for (let step = 0; step < count; step++) {
      try {
        await world.step();
      } catch (error) {
        throw new Error(`Seed ${seed + round}, step ${step}: ${(error as Error).message}`, { cause: error });
      }
    }
    await world.expectAll();
    console.log(`Seed ${seed + round}: ${JSON.stringify(world.counts)}`);
    expect(Object.keys(world.counts).length).toBeGreaterThan(8);
  }
}

const minute = 60_000;

it(
  'after random writes, discards, flushes, snapshots, removals, restores, clones, renames, grows, settles, kills and reattaches every state shows what a model in memory does',
  async () => {
    await run(10_000, (random) => World.create(random));
  },
  20 * minute,
);

it(
  'files on a storage server whose worker is killed, and of which snapshots are taken and removed, hold what a model in memory does; so do they in each snapshot',
  async () => {
    await run(700, (random) => FileWorld.create(random));
  },
  20 * minute,
);
