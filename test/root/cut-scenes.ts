import { readdirSync } from 'node:fs';
import { expect } from 'vitest';
import { readBlocks } from '../../src/image/chain';
import { recover, recoverSteps } from '../../src/image/recover';
import { type Disk, diskOf, emptyDisk, Layers, withBlocks } from './layers';

/** The disk of an image, and what a delta on it changes. */
export const base = withBlocks(
  emptyDisk(),
  new Map([
    [0, 9],
    [1, 1],
    [2, 2],
    [700, 3],
  ]),
);
export const changes = new Map([
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
export async function cutAfter(steps: AsyncGenerator<string>, count: number): Promise<number> {
  let done = 0;
  while (done < count && !(await steps.next()).done) done++;
  return done;
}

/** Cuts the work after each of its steps, recover after each of its own, and lets it come through then; twice. */
export async function expectCutSafe({ make, steps, judge }: Scene): Promise<void> {
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

/** The names of the files, in order. */
export function filesOf({ directory }: Layers): string[] {
  return readdirSync(directory).sort();
}

/** The disk that a file is the top of. */
export async function viewOf(layers: Layers, fileName: string): Promise<Disk> {
  await using chain = await layers.chain(fileName);
  return diskOf(await readBlocks(chain, 0, chain.sizeBytes));
}
