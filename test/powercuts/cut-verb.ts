import { rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect } from 'vitest';
import { execute, type ExecuteResult, shell } from '../execute';
import { program, type TestStore } from '../store';
import { temporaryDirectory } from '../temporary';
import { type CampaignCounts, type CampaignOptions, cutEverywhere } from './campaign';
import { Content, pageBytes } from './content';
import { Recording } from './log';
import { StateReader } from './reader';
import { recordedProgram } from './recorded-program';
import { Recoverer } from './recoverer';
import { type CutState, Replay } from './replay';
import { type Shown, shownBy, VerbExpectation } from './verb-expectation';

export interface VerbOptions extends Omit<CampaignOptions, 'recoverer' | 'elsewhere' | 'kills'> {
  /** Whether the present is another afterwards. */
  restores?: boolean;
  /** As in `VerbExpectation`. */
  grownFrom?: number | undefined;
  /** Whether a storage server does some of it, which is recorded then, too. */
  isServed?: boolean | undefined;
  /** Of work that fails (1), and has left what was there before: what is there if a cut comes when it is done already. */
  takenBack?: ((before: Shown) => Shown) | undefined;
  /** Leaves out of the log that files, or directories, were synced: something that must be found. */
  fault?: 'file' | 'directory';
}

/** Runs a verb on a store whose containers are at rest, and cuts the power at each moment of what it did to their files. */
export async function cutVerb(store: TestStore, verb: string[], options: VerbOptions): Promise<CampaignCounts> {
  const run = async (environment: Record<string, string>) =>
    execute(options.isServed ? await recordedProgram(environment) : program, verb, { env: { ...store.environment, ...environment } });
  return cutWork(store, run, options);
}

/** As `cutVerb`, of another program that is run with the environment that it is given. */
export async function cutWork(
  store: TestStore,
  run: (environment: Record<string, string>) => Promise<ExecuteResult>,
  options: VerbOptions,
): Promise<CampaignCounts> {
  const { random, restores = false, fault, takenBack } = options;
  const directory = join(store.root, 'containers');
  const elsewhere: CutState = new Map([['../templates/small.img', Content.ofFile(join(store.root, 'templates/small.img'))]]);
  const recording = new Recording(directory, join(await temporaryDirectory(), 'log'));
  const replay = Replay.ofDirectory(directory);
  const before = shownBy(new StateReader(replay.cut('lost', random), elsewhere));
  expect(await run(recording.environment)).toMatchObject(takenBack ? { code: 1 } : { code: 0, stderr: '' });
  const { ino } = await stat(directory);
  const log = recording.take().filter(({ kind, inode }) => !(fault && kind === 'sync' && (inode === ino) === (fault === 'directory')));

  const wanted = Replay.ofDirectory(directory).cut('lost', random);
  const atEnd = shownBy(new StateReader(wanted, elsewhere));
  if (takenBack) new VerbExpectation(before, before).holdsRecovered(new StateReader(wanted, elsewhere));
  const after = takenBack?.(before) ?? atEnd;
  for (const [name, blocks] of after) if (!(restores && name === 'web')) expectSame(name, before.get(name), blocks);
  for (const shown of [before, after]) await expectSound(shown);

  const expectation = new VerbExpectation(before, after, options.grownFrom);
  const counts = await cutEverywhere(replay, log, expectation, { ...options, kills: true, elsewhere, recoverer: await Recoverer.start() });
  expectComplete(replay.cut('kept', random), wanted);
  // What has returned lasts.
  new VerbExpectation(atEnd, atEnd).holdsRecovered(new StateReader(replay.cut('lost', random), elsewhere));
  return counts;
}

function expectSame(name: string, before: Buffer[] | undefined, after: Buffer[]): void {
  const zeroes = Buffer.alloc(pageBytes);
  // The first holds what a seal changes.
  if (before)
    expect(
      after.findIndex((block, index) => index > 0 && !block.equals(before[index] ?? zeroes)),
      name,
    ).toBe(-1);
}

/** The log tells all that was done. */
function expectComplete(replayed: CutState, wanted: CutState): void {
  expect([...replayed.keys()].sort()).toEqual([...wanted.keys()].sort());
  for (const [path, content] of wanted) expect(content.firstDifference(replayed.get(path) ?? Content.empty()), path).toBeUndefined();
}

/** What the names stand for are file systems. */
async function expectSound(shown: Shown): Promise<void> {
  const path = join(await temporaryDirectory(), 'view');
  for (const blocks of shown.values()) {
    await writeFile(path, Buffer.concat(blocks));
    await shell('e2fsck', '-fn', path);
    await rm(path);
  }
}
