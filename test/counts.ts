import { onTestFailed } from 'vitest';

/** How often a test does a thing: a tenth of `whole` in the suite, all of it with `npm run soak`. */
export function soakCount(whole: number): number {
  return process.env.LOOPBOX_SOAK ? whole : Math.max(1, Math.ceil(whole / 10));
}

/** Numbers that are the same in every run with the same seed (mulberry32). */
export class SeededRandom {
  #state: number;

  constructor(readonly seed: number) {
    this.#state = seed | 0;
  }

  /** A whole number from 0 to below `limit`. */
  below(limit: number): number {
    this.#state = (this.#state + 0x6d2b79f5) | 0;
    let t = Math.imul(this.#state ^ (this.#state >>> 15), 1 | this.#state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return Math.floor((((t ^ (t >>> 14)) >>> 0) / 2 ** 32) * limit);
  }

  pick<T>(choices: readonly T[]): T {
    return choices[this.below(choices.length)] as T;
  }
}

/** The random numbers of a test: those of LOOPBOX_SEED, else of 1. Where the test fails, the seed is printed. */
export function seededRandom(): SeededRandom {
  const random = new SeededRandom(Number(process.env.LOOPBOX_SEED ?? 1));
  onTestFailed(() => console.error(`Seed: LOOPBOX_SEED=${random.seed}`));
  return random;
}
