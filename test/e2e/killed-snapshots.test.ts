import { beforeEach, describe, expect, it } from 'vitest';
import { seededRandom, soakCount } from '../counts';
import { TestStore } from '../fixtures';
import { hasEnded, readProcess } from '../../src/runtime/processes';
import { ambush, findVictims, type Victim } from '../victims';
import { RecordKeeper, recordKeeper } from './record-keeper';

const minute = 60_000;

interface Verb {
  title: string;
  /** How often it is killed, with `npm run soak`; 20 times unless told. */
  frequency?: number;
  args: string[];
  /** Whether the container runs before it, and whether it goes on running. */
  runs?: 'on' | 'until then';
  /** What has to be there before it, and what takes back what it has done, when the container is stopped. */
  before?: string[];
  undo?: () => string[][];
  /** The exit codes of the repeated command: done now, or done already. */
  again: number[];
  /** The snapshots that there are once it is done; `c@old` unless told. */
  snapshots?: string[];
  /** The container's name once it is done; `c` unless told. */
  name?: string;
  /** The snapshot or container whose name it changes. */
  renames?: [from: string, to: string];
  /** The container that it makes. */
  makes?: { name: string; isCopy: boolean };
  /** Whether it makes the present what `c@old` is, and a snapshot of what the present was. */
  restores?: boolean;
}

const removeKept = () => [['snapshot', 'rm', '--wait', ...keeper.snapshots().filter((name) => name !== 'c@old')]];
const both = ['c@new', 'c@old'];

const ofRunning: Verb[] = [
  {
    title: 'snapshot create',
    frequency: 100,
    args: ['snapshot', 'create', 'c@new'],
    again: [0, 11],
    runs: 'on',
    snapshots: both,
    undo: removeKept,
  },
  {
    title: 'snapshot rm',
    before: ['snapshot', 'create', 'c@new'],
    args: ['snapshot', 'rm', 'c@new'],
    again: [0, 10],
    runs: 'on',
  },
  {
    title: 'snapshot rename',
    args: ['snapshot', 'rename', 'c@old', 'new'],
    again: [0, 10],
    runs: 'on',
    snapshots: ['c@new'],
    renames: ['c@old', 'c@new'],
    undo: () => [['snapshot', 'rename', 'c@new', 'old']],
  },
  { title: 'set', args: ['set', 'c', '--pids', '50', '--label', 'a=b'], again: [0], runs: 'on' },
  { title: 'stop', args: ['stop', '-t', '0', 'c'], again: [0], runs: 'until then' },
  {
    title: 'snapshot restore --restart',
    args: ['snapshot', 'restore', '--restart', '-t', '0', 'c@old'],
    again: [0],
    runs: 'until then',
    restores: true,
    undo: removeKept,
  },
];

const ofStopped: Verb[] = [
  { title: 'snapshot create', args: ['snapshot', 'create', 'c@new'], again: [0, 11], snapshots: both, undo: removeKept },
  { title: 'snapshot rm', before: ['snapshot', 'create', 'c@new'], args: ['snapshot', 'rm', '--wait', 'c@new'], again: [0, 10] },
  { title: 'snapshot restore', args: ['snapshot', 'restore', 'c@old'], again: [0], restores: true, undo: removeKept },
  {
    title: 'rename',
    args: ['rename', 'c', 'd'],
    again: [0, 10],
    snapshots: ['d@old'],
    renames: ['c@old', 'd@old'],
    name: 'd',
    undo: () => [['rename', 'd', 'c']],
  },
  {
    title: 'clone --linked',
    args: ['clone', '--linked', 'c', 'e'],
    again: [0, 11],
    makes: { name: 'e', isCopy: true },
    undo: () => [['rm', 'e']],
  },
  {
    title: 'create --linked',
    args: ['create', '--linked', '--template', 'busybox', 'e'],
    again: [0, 11],
    makes: { name: 'e', isCopy: false },
    undo: () => [['rm', 'e']],
  },
  { title: 'set', args: ['set', 'c', '--pids', '50', '--label', 'a=b'], again: [0] },
  { title: 'start', args: ['start', 'c'], again: [0, 11] },
];

const freezers: Victim[][] = [['freezer'], ['CLI', 'freezer'], ['worker', 'freezer'], ['keeper', 'freezer']];
const servers: Victim[][] = [['CLI'], ['worker'], ['keeper'], ['CLI', 'worker'], ['CLI', 'keeper'], ['keeper', 'worker']];

function victimsOf({ title, runs }: Verb): Victim[][] {
  if (!runs) return title === 'start' ? servers : [['CLI']];
  return title === 'snapshot create' ? [...freezers, ...servers] : servers;
}

let store: TestStore;
let keeper: RecordKeeper;

beforeEach(async () => {
  store = await TestStore.create();
  await store.importBusybox('busybox', '--size', '128M');
  await store.createBusybox('c', '--full', '--attach', 'stack', ...recordKeeper);
  keeper = new RecordKeeper(store, 'c');
  await keeper.start();
  await store.done('snapshot', 'create', 'c@old');
  await keeper.stop();
  await keeper.expectSnapshots(['c@old']);
});

describe('a container that keeps records, whose disk is served: when at any moment of', () => {
  for (const [index, verb] of [...ofRunning, ...ofStopped].entries()) {
    const of = verb.runs ? 'while it runs' : 'while it is stopped';
    it(
      `${verb.title}, ${of}, processes are killed, nothing acknowledged is lost, snapshots are exact, and the command goes through again`,
      async () => {
        const random = seededRandom();
        const usualMs = await measure(verb);
        const sets = victimsOf(verb);
        for (let round = 0; round < soakCount(verb.frequency ?? 20); round++) {
          const victims = sets[(index + round) % sets.length] ?? [];
          const delayMs = random.below(usualMs);
          await killedOnce(verb, victims, { delayMs, graceMs: random.below(20) }).catch((error: unknown) => {
            throw new Error(`Round ${round}, a kill of ${victims.join(' and ')} at ${delayMs} ms: ${String(error)}`, { cause: error });
          });
        }
      },
      10 * minute,
    );
  }
});

/** How long the command takes that nobody kills. */
async function measure(verb: Verb): Promise<number> {
  await prepare(verb);
  const begun = performance.now();
  await store.done(...verb.args);
  const usualMs = performance.now() - begun;
  await takeBack(verb);
  return usualMs;
}

async function prepare({ before, runs }: Verb): Promise<void> {
  if (runs) await keeper.start();
  if (before) {
    await store.done(...before);
    await keeper.expectSnapshots(both);
  }
}

async function takeBack({ undo, name = 'c', renames }: Verb): Promise<void> {
  await store.done('stop', '-t', '0', name);
  for (const args of undo?.() ?? []) await store.done(...args);
  if (renames) keeper.renamed(renames[1], renames[0]);
  await keeper.expectAtRest();
  await keeper.expectSnapshots(['c@old']);
}

async function killedOnce(verb: Verb, victims: Victim[], moment: { delayMs: number; graceMs: number }): Promise<void> {
  await prepare(verb);
  const before = { snapshots: keeper.snapshots(), acknowledged: verb.runs ? keeper.acknowledged() : await keeper.records() };
  const [server] = findVictims(store, 'keeper');
  const { code, killed, stderr } = await attack(verb, victims, moment);
  const mayFail = killed.includes('keeper') || killed.includes('freezer');
  expect(victims.includes('CLI') ? [0, 137] : mayFail ? [0, 1, 11] : [0], stderr).toContain(code);

  const hasServerEnded = verb.runs === 'on' && server !== undefined && !isThere(server);
  // Of one that is started again another server may have been hit.
  const isServerLost = victims.includes('keeper') && (killed.includes('keeper') || hasServerEnded || verb.restores === true);
  const isRunning = await settles(verb, isServerLost);
  if (isRunning) await keeper.expectWrites();
  await expectOneOf([before.snapshots, snapshotsAfter(verb)], verb);

  const again = await store.loopbox(verb.args);
  expect(verb.again, again.stderr).toContain(again.code);
  if (await keeper.isRunning()) await keeper.expectWrites();
  const { name = 'c' } = verb;
  await store.done('stop', '-t', '0', name);
  await keeper.expectAtRest();
  keeper.expectNoHalves();
  await expectOneOf([snapshotsAfter(verb)], verb);
  await expectRecords(verb, before.acknowledged);
  await takeBack(verb);
}

function isThere(pid: number): boolean {
  const status = readProcess(pid);
  return status !== undefined && !hasEnded(status);
}

/** Runs the command and kills the victims in the middle of it. */
async function attack(
  verb: Verb,
  victims: Victim[],
  moment: { delayMs: number; graceMs: number },
): Promise<{ code: number; killed: Victim[]; stderr: string }> {
  let isOver = false;
  let killed: Promise<Victim[]> | undefined;
  const onStart = ({ pid = 0 }) => {
    killed = ambush(store, victims, { before: new Set(), cliPid: pid, ...moment, isOver: () => isOver });
  };
  const { code, stderr } = await store.loopbox(verb.args, { onStart });
  isOver = true;
  return { code, stderr, killed: (await killed) ?? [] };
}

/** Whether the container runs, when that does not change by itself any more. */
async function settles({ runs, restores }: Verb, isServerLost: boolean): Promise<boolean> {
  if (isServerLost && !restores) await expect.poll(() => keeper.isRunning()).toBe(false);
  // What is started again has another server.
  if (isServerLost && restores) await expect.poll(() => keeper.trouble()).toBe('');
  const isRunning = await keeper.isRunning();
  if (runs === 'on' && !isServerLost) expect(isRunning, 'it goes on').toBe(true);
  return isRunning;
}

function snapshotsAfter({ snapshots = ['c@old'], restores }: Verb): string[] {
  return restores ? [...snapshots, ...keeper.snapshots().filter((name) => name.startsWith('c@before-restore'))] : snapshots;
}

async function expectOneOf(possible: string[][], { renames }: Verb): Promise<void> {
  const now = keeper.snapshots();
  if (renames && now.includes(renames[1])) keeper.renamed(...renames);
  expect(possible.map((names) => names.sort())).toContainEqual(now);
  await keeper.expectSnapshots(now);
}

/** What was acknowledged before the command is in all that it leaves; what was acknowledged since is in the present. */
async function expectRecords({ name = 'c', snapshots = [], restores, makes }: Verb, acknowledged: number): Promise<void> {
  const present = await keeper.records(name);
  if (restores) {
    const kept = keeper.snapshots().filter((each) => each.startsWith('c@before-restore'));
    expect(Math.max(...(await Promise.all(kept.map((each) => keeper.records(each)))))).toBeGreaterThanOrEqual(acknowledged);
    expect(present).toBeGreaterThanOrEqual(await keeper.records('c@old'));
    return;
  }
  expect(present).toBeGreaterThanOrEqual(Math.max(acknowledged, keeper.acknowledged()));
  if (snapshots.includes('c@new') && snapshots.includes('c@old')) {
    expect(await keeper.records('c@new')).toBeGreaterThanOrEqual(acknowledged);
  }
  if (makes) expect(await keeper.records(makes.name)).toBe(makes.isCopy ? present : 0);
}
