import { setTimeout } from 'node:timers/promises';

/**
 * Runs the contestants in turn, round after round, every other round backwards, so that what else the machine does meets them alike.
 * A contestant is `{ prepare?, run, after? }`; `run` returns its own figure (milliseconds, a rate), the rest is not measured.
 * Returns `{ NAME: figures of all rounds }`. The first rounds, `warmUps`, are for the caches and do not count.
 */
export async function alternate(contestants, rounds, { warmUps = 1 } = {}) {
  const names = Object.keys(contestants);
  const samples = Object.fromEntries(names.map((name) => [name, []]));
  for (let round = -warmUps; round < rounds; round++) {
    for (const name of round % 2 ? names.toReversed() : names) {
      const { prepare, run, after } = contestants[name];
      await prepare?.();
      const figure = await run();
      await after?.();
      if (round >= 0) samples[name].push(figure);
    }
  }
  return samples;
}

/** A pause before what joins cgroups: for some 10 ms after somebody has, the kernel lets the next one do so without its usual wait. */
export const rest = () => setTimeout(100);

/** The value below which `share` of the figures lie. */
export function quantile(figures, share) {
  const sorted = [...figures].sort((a, b) => a - b);
  const position = (sorted.length - 1) * share;
  const [below, above] = [sorted[Math.floor(position)], sorted[Math.ceil(position)]];
  return below + (above - below) * (position % 1);
}

export const median = (figures) => quantile(figures, 0.5);

/** How one contestant compares with another: the median over the rounds, whose figures were taken next to each other. */
export const ratio = (figures, reference) => median(figures.map((figure, round) => figure / reference[round]));
export const difference = (figures, reference) => median(figures.map((figure, round) => figure - reference[round]));

/** A line of a result. `reference` is what the ratio is to. */
export function row(name, figures, { unit = 'ms', reference } = {}) {
  return {
    name,
    unit,
    median: median(figures),
    quartiles: [quantile(figures, 0.25), quantile(figures, 0.75)],
    rounds: figures.length,
    ...(reference && { ratio: ratio(figures, reference), difference: difference(figures, reference) }),
  };
}

/** A goal and how it was met. One that is missed by less than a fifth is `near`. */
export function goal(text, value, limit, { better = 'less', unit = '×' } = {}) {
  const reached = better === 'more' ? value / limit : value > 0 ? limit / value : 1;
  return { text, value, limit, unit, verdict: reached >= 1 ? 'met' : reached >= 0.8 ? 'near' : 'missed' };
}
