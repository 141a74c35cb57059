import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { beforeAll, describe, expect, it } from 'vitest';
import { seededRandom, soakCount } from '../counts';
import { cleanUp, plainEnvironment, TestStore } from '../fixtures';
import { processesOf } from '../remains';
import { kill } from '../victims';

const minute = 60_000;
/** Writes without a pause, and now and then as much as a freeze takes some time to write out. */
const writer = '(while :; do dd if=/dev/zero of=/load bs=64k count=64 2>/dev/null; sleep 0.05; done) & while :; do echo x > /tick; done';
/** What a guardian changes for the time of a freeze. */
const expeditedPath = '/sys/kernel/rcu_expedited';
const expedited = readFileSync(expeditedPath, 'utf8');
let store: TestStore;
let root: string;

beforeAll(async () => {
  store = await TestStore.create();
  await store.importBusybox('busybox', '--size', '128M');
  await store.createBusybox('c', '--start', '--', 'sh', '-c', writer);
  const { pid } = (await store.inspect('c')) as { pid: number };
  root = `/proc/${pid}/root`;
});

describe('a container whose file system is frozen, over and over, by a caller that is killed', () => {
  it(
    'at any moment, writes again within 1 s',
    async () => {
      const random = seededRandom();
      for (let round = 0; round < soakCount(1000); round++) {
        const caller = await spawnCaller(random.below(40));
        await sleep(random.below(100));
        await kill(caller);
        await expectWrites();
      }
      await expectAtRest();
    },
    10 * minute,
  );

  it(
    'or whose guardian is killed, at any moment, writes again within 1 s',
    async () => {
      const random = seededRandom();
      const caller = await spawnCaller(20);
      for (let hits = 0; hits < soakCount(1000); ) {
        await sleep(random.below(50));
        for (const pid of guardians()) if (await kill(pid)) hits++;
        await expectWrites();
      }
      expect(await kill(caller), 'the caller goes on').toBe(true);
      await expectAtRest();
    },
    10 * minute,
  );

  it(
    'together with its guardian, at any moment, writes again within 1 s of the next command that looks at it',
    async () => {
      const random = seededRandom();
      for (let round = 0; round < soakCount(500); round++) {
        const caller = await spawnCaller(random.below(100));
        await sleep(random.below(100));
        const victims = random.below(2) ? [caller, ...guardians()] : [...guardians(), caller];
        await Promise.all(victims.map(kill));
        await store.done('ls');
        await expectWrites();
      }
      await expectAtRest();
    },
    10 * minute,
  );
});

/** Returns in its first round. */
async function spawnCaller(holdMs: number): Promise<number> {
  const script = join(import.meta.dirname, 'freeze-caller.cjs');
  const child = spawn(process.execPath, [script, store.runRoot, store.component, 'c', String(holdMs)], {
    stdio: ['ignore', 'pipe', 'inherit'],
    env: plainEnvironment(),
  });
  cleanUp(() => void child.kill('SIGKILL'));
  await once(child.stdout, 'data');
  child.stdout.resume();
  return child.pid ?? 0;
}

function guardians(): number[] {
  return processesOf(store)
    .filter(({ name }) => name === 'loopbox-freeze')
    .map(({ pid }) => pid);
}

/** What is written soon enough after a kill, and what only after more than a second. */
const writes = { soon: 0, late: 0 };

/** Expects a write inside, and counts how long it took. */
async function expectWrites(): Promise<void> {
  const now = Date.now();
  const hasWritten = () => (statSync(join(root, 'tick'), { throwIfNoEntry: false })?.mtimeMs ?? 0) > now;
  await expect.poll(hasWritten, { interval: 5 }).toBe(true);
  if (Date.now() - now <= 1000) writes.soon++;
  else writes.late++;
}

/** A host whose own disk stands still for a moment is no freeze: that happens now and then, and a container that was left frozen each time. */
function expectInTime(): void {
  expect(writes.late).toBeLessThanOrEqual(writes.soon / 20);
}

async function expectAtRest(): Promise<void> {
  expectInTime();
  await expect.poll(guardians).toEqual([]);
  await store.done('ls');
  expect(existsSync(join(store.runRoot, store.component, 'c', 'freezing'))).toBe(false);
  await store.done('exec', 'c', 'sh', '-c', 'echo x > /after && sync');
  expect(readFileSync(expeditedPath, 'utf8')).toBe(expedited);
}
