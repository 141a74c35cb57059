import { beforeAll, describe, expect, it } from 'vitest';
import { type SeededRandom, seededRandom, soakCount } from '../counts';
import { lockIsFree, TestStore, temporaryDirectory, xfsDirectory } from '../fixtures';
import { heldByKernel, keptOnHost, processesOf } from '../remains';
import { ambush, findVictims, kill, processesNow, type Victim } from '../victims';

const victims: Victim[] = ['CLI', 'conmon', 'runc', 'loopbox-oci', 'guardian', 'init'];
const minute = 60_000;
let store: TestStore;
/** How often each kind of kill has to hit. */
let count: number;
let startMs: number;

describe.each([
  { place: 'the host’s file system', rounds: soakCount(50), directory: temporaryDirectory },
  { place: 'XFS', rounds: soakCount(10), directory: () => xfsDirectory() },
])('on $place', ({ rounds, directory }) => {
  beforeAll(async () => {
    count = rounds;
    store = await TestStore.create(await directory());
    await store.importBusybox();
    await store.done('create', 'c', '--template', 'busybox', '--', 'sleep', '1000');
    const begun = performance.now();
    await store.done('start', 'c');
    startMs = performance.now() - begun;
    await stop();
  });

  describe('a start whose', () => {
    for (const victim of victims.filter((each) => each !== 'conmon')) {
      it(
        `${victim} is killed at any moment either runs, or the kernel lets go of all by itself within 2 s`,
        async () => {
          const random = seededRandom();
          await killInRounds([victim], random, async () => {
            expect(await settles(), 'neither running nor gone').toBe(true);
            await expectGoneOrStop();
          });
          await expectAllIsWell();
        },
        10 * minute,
      );
    }

    it(
      'conmon is killed at any moment either runs, or nothing of it is left after an ls',
      async () => {
        await killInRounds(['conmon'], seededRandom(), expectGoneOrStop);
        await expectAllIsWell();
      },
      10 * minute,
    );

    for (const pair of [
      ['CLI', 'conmon'],
      ['CLI', 'guardian'],
      ['CLI', 'runc'],
      ['conmon', 'runc'],
      ['conmon', 'init'],
    ] as Victim[][]) {
      it(
        `${pair.join(' and ')} are killed together either runs, or nothing of it is left after an ls`,
        async () => {
          await killInRounds(pair, seededRandom(), async () => {
            await settles();
            await expectGoneOrStop();
          });
          await expectAllIsWell();
        },
        10 * minute,
      );
    }
  });

  it(
    'ls tells a state at every moment of starts and kills, and is in nobody’s way',
    async () => {
      const random = seededRandom();
      const over = new AbortController();
      const looking = (async () => {
        while (!over.signal.aborted) await listed();
      })();
      const killing = async () => {
        for (let round = 0; round < count; round++) {
          await killDuringStart([random.pick(victims)], random.below(300), random.below(4));
          await stop();
        }
      };
      await Promise.all([looking, killing().finally(() => over.abort())]);
      await expectGoneOrStop();
      await expectAllIsWell();
    },
    10 * minute,
  );

  describe('a running container whose', () => {
    it(
      'init is killed leaves nothing attached within 2 s, and nothing at all after an ls',
      async () => {
        const random = seededRandom();
        for (let round = 0; round < count; round++) {
          await store.done('start', 'c');
          await killOne('init', random);
          await expect.poll(isFree, { timeout: 2000 }).toBe(true);
          expect(await listed()).toMatchObject({ state: 'failed', reason: 'killed by signal 9', exitCode: 137 });
          await expect.poll(() => keptOnHost(store)).toEqual([]);
        }
        await expectAllIsWell();
      },
      10 * minute,
    );

    it(
      'conmon is killed goes on: ls says so, exec and stop work, and the next start is normal',
      async () => {
        const random = seededRandom();
        for (let round = 0; round < count; round++) {
          await store.done('start', 'c');
          await killOne('conmon', random);
          expect(await listed()).toMatchObject({ state: 'running', reason: 'monitor lost' });
          expect(await store.loopbox(['exec', 'c', 'sh', '-c', 'echo alive; exit 7'])).toMatchObject({ code: 7, stdout: 'alive\n' });
          await stop();
          expect(await listed()).toMatchObject({ state: 'stopped' });
          await store.done('start', 'c');
          expect(await listed()).not.toHaveProperty('reason');
          await stop();
        }
        await expectAllIsWell();
      },
      10 * minute,
    );
  });
});

/** Starts the container and kills the victims on the way, as often as asked; then `judge` sees what has become of it. */
async function killInRounds(victims: Victim[], random: SeededRandom, judge: () => Promise<void>): Promise<void> {
  // What lives only as long as the start would mostly be missed by later kills.
  const isLasting = victims.every((victim) => victim === 'conmon' || victim === 'init');
  const limitMs = isLasting ? 300 : Math.min(300, startMs);
  for (let hits = 0, rounds = 0; hits < count; rounds++) {
    const delayMs = random.below(limitMs);
    if (rounds > 30 * count) throw new Error(`Only ${hits} of ${rounds} kills have hit`);
    if (await killDuringStart(victims, delayMs, random.below(4))) hits++;
    await judge().catch((error: unknown) => {
      throw new Error(`After round ${rounds}, a kill of ${victims.join(' and ')} at ${delayMs} ms: ${String(error)}`, { cause: error });
    });
  }
}

/** Returns whether all victims were there to be killed. Whatever happens, the command that starts has ended then. */
async function killDuringStart(victims: Victim[], delayMs: number, graceMs: number): Promise<boolean> {
  const before = processesNow();
  let isOver = false;
  let killed: Promise<Victim[]> | undefined;
  const onStart = ({ pid = 0 }) => {
    killed = ambush(store, victims, { before, cliPid: pid, delayMs, graceMs, isOver: () => isOver });
  };
  const { code, stderr } = await store.loopbox(['start', 'c'], { onStart, timeoutMs: 60_000 });
  isOver = true;
  expect([0, 1, 137], stderr).toContain(code);
  return (await killed)?.length === victims.length;
}

async function killOne(victim: Victim, random: SeededRandom): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve, random.below(100)));
  const [pid] = findVictims(store, victim);
  expect(pid).toBeDefined();
  expect(await kill(pid ?? 0)).toBe(true);
}

/** Whether the file's lock is free, and no process and no loop device is there. */
async function isFree(): Promise<boolean> {
  return heldByKernel(store).length === 0 && (await lockIsFree(store.fileOf('c')));
}

/** Whether nothing is left to change by itself: the container's command runs and whoever started it has gone, or all have gone. */
async function isSettled(): Promise<boolean> {
  const processes = processesOf(store);
  const isRunning = processes.some(({ inContainer, name }) => inContainer && name === 'sleep');
  const isStarting = processes.some(({ name }) => /^(runc|loopbox$|loopbox-oci)/.test(name));
  return isRunning ? !isStarting : await isFree();
}

/** Waits until nothing changes by itself any more; false where it takes longer than 2 s, or two starts where that is longer. */
async function settles(): Promise<boolean> {
  for (const deadline = performance.now() + Math.max(2000, 2 * startMs); performance.now() < deadline; ) {
    if (await isSettled()) return true;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  return isSettled();
}

async function listed(): Promise<Record<string, unknown>> {
  const { code, stdout, stderr } = await store.loopbox(['ls', '--format', 'json'], { timeoutMs: 60_000 });
  expect(code, stderr).toBe(0);
  const [container] = JSON.parse(stdout) as Record<string, unknown>[];
  expect(['created', 'running', 'stopped', 'failed']).toContain(container?.state);
  return container ?? {};
}

async function expectGoneOrStop(): Promise<void> {
  const { state } = await listed();
  if (state === 'running') await stop();
  await expect.poll(() => [...heldByKernel(store), ...keptOnHost(store)]).toEqual([]);
  await expect.poll(() => lockIsFree(store.fileOf('c'))).toBe(true);
}

async function stop(): Promise<void> {
  await store.done('stop', '-t', '0', 'c');
}

async function expectAllIsWell(): Promise<void> {
  await store.done('start', 'c');
  expect(await listed()).toMatchObject({ state: 'running' });
  await store.done('exec', 'c', 'true');
  await stop();
  await expectGoneOrStop();
  expect(await store.loopbox(['check', 'c'])).toMatchObject({ code: 0 });
}
