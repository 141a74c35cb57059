import type { SeededRandom } from '../counts';
import type { Entry } from './log';
import { StateReader } from './reader';
import type { Recoverer } from './recoverer';
import type { CutState, Fate, Replay } from './replay';

/** What must hold at a power cut. Each throws where it does not. */
export interface Expectation {
  /** What was recorded went on to here. */
  see(entry: Entry): void;
  /** In what a cut leaves. */
  holdsAtOnce(reader: StateReader): void;
  /** In what recover has made of it. */
  holdsRecovered(reader: StateReader): void;
}

export interface CampaignOptions {
  random: SeededRandom;
  recoverer: Recoverer;
  /** How many cuts there are at least. */
  states: number;
  /** How many of them are recovered, about. */
  recovered: number;
  /** Names of containers, any of which may be recovered first. */
  names: string[];
  /** Whether what is recorded is a command's work alone, which ends with it: then it is also killed before each of its syncs. */
  kills?: boolean;
  /** Files of other directories, which stay as they are, with their paths from this one. */
  elsewhere?: CutState;
}

/** How often what was done. */
export interface CampaignCounts {
  states: number;
  recovered: number;
  recoverCuts: number;
  kills: number;
}

/**
 * Cuts the power at each moment of what was recorded, in many ways, and looks at what is left; recovers some of it, with cuts within
 * that. `replay` stands at the beginning of the log, and at its end afterwards.
 */
export async function cutEverywhere(
  replay: Replay,
  log: readonly Entry[],
  expectation: Expectation,
  options: CampaignOptions,
): Promise<CampaignCounts> {
  const { random, states, recovered } = options;
  const counts: CampaignCounts = { states: 0, recovered: 0, recoverCuts: 0, kills: 0 };
  const look = async (at: number, fate: Fate) => {
    const entry = log[at];
    const where = `cut after ${at + 1} of ${log.length} entries (${entry?.kind} ${entry?.path}), what is not synced is ${fate}`;
    const state = replay.cut(fate, random);
    counts.states++;
    await explained(where, state, () => expectation.holdsAtOnce(new StateReader(state, options.elsewhere)));
    if (random.below(states) < recovered) await explained(where, state, () => cutRecover(state, expectation, options, counts));
  };
  for (const [at, entry] of log.entries()) {
    if (options.kills && entry.kind === 'sync') {
      const state = replay.cut('kept', random);
      await explained(`killed before entry ${at + 1} of ${log.length} (${entry.kind} ${entry.path})`, state, () =>
        cutAfterKill(state, replay, expectation, options, counts),
      );
    }
    replay.apply(entry);
    expectation.see(entry);
    await look(at, 'lost');
    if (replay.isAtRest) continue;
    await look(at, 'kept');
    // Spread over the log; what comes last is durable, and has but one state.
    do await look(at, 'random');
    while (counts.states < (1.1 * states * (at + 2)) / log.length);
  }
  return counts;
}

async function cutRecover(state: CutState, expectation: Expectation, options: CampaignOptions, counts: CampaignCounts): Promise<void> {
  const { random, recoverer, names } = options;
  const order = random.below(2) ? names : [...names].reverse();
  counts.recovered++;
  const { steps, again, log, replay } = await recoverer.recover(state, order);
  if (again.length > 0) throw new Error(`A second recover finds something to do: ${again.join('; ')}`);
  // Of its own states one is recovered in turn.
  const chosen = random.below(log.length);
  let half: CutState | undefined;
  for (const [at, entry] of log.entries()) {
    replay.apply(entry);
    const cut = replay.cut('random', random);
    counts.recoverCuts++;
    await explained(`recover is cut: ${entry.kind} ${entry.path}`, cut, () =>
      expectation.holdsAtOnce(new StateReader(cut, options.elsewhere)),
    );
    if (at === chosen) half = new Map([...cut].map(([path, content]) => [path, content.flat()]));
  }
  const end = replay.cut('lost', random);
  await explained(`recovered: ${steps.join('; ')}`, end, () => expectation.holdsRecovered(new StateReader(end, options.elsewhere)));
  if (!half) return;
  const second = await recoverer.recover(half, order);
  for (const entry of second.log) second.replay.apply(entry);
  const last = second.replay.cut('lost', random);
  await explained(`recovered after a cut recover: ${second.steps.join('; ')}`, half, () =>
    expectation.holdsRecovered(new StateReader(last, options.elsewhere)),
  );
}

/** What a killed command has left in the page cache is recovered, and then the power is cut. */
async function cutAfterKill(
  state: CutState,
  killed: Replay,
  expectation: Expectation,
  options: CampaignOptions,
  counts: CampaignCounts,
): Promise<void> {
  const { random, recoverer, names } = options;
  counts.kills++;
  const { steps, log, replay } = await recoverer.recover(state, names, killed);
  const look = (cut: CutState, holds: 'holdsAtOnce' | 'holdsRecovered') =>
    explained(`recovered: ${steps.join('; ')}; then cut`, cut, () => expectation[holds](new StateReader(cut, options.elsewhere)));
  for (const entry of log) {
    replay.apply(entry);
    counts.recoverCuts++;
    await look(replay.cut('random', random), 'holdsAtOnce');
  }
  await look(replay.cut('lost', random), 'holdsRecovered');
}

async function explained(where: string, state: CutState, look: () => void | Promise<void>): Promise<void> {
  try {
    await look();
  } catch (cause) {
    throw new Error(`${where}: ${[...state.keys()].sort().join(' ')}: ${cause instanceof Error ? cause.message : ''}`, { cause });
  }
}
