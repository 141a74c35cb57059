import { mkdtemp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { execute } from '../execute';
import { cleanUp, seededRandom, soakCount, temporaryDirectory, type TestStore } from '../fixtures';
import { temporaryPrefix } from '../host-state';
import { cutEverywhere } from '../powercuts/campaign';
import { type Entry, Recording } from '../powercuts/log';
import { recordedProgram } from '../powercuts/recorded-program';
import { Recoverer } from '../powercuts/recoverer';
import { Replay } from '../powercuts/replay';
import { contentOf, RunningExpectation } from '../powercuts/running-expectation';
import { smallStore } from '../powercuts/world';

/** What a container does all the time that is not told of. */
const churn = 'while :; do dd if=/bin/busybox of=/root/churn bs=4k count=40 conv=notrunc 2>/dev/null; sleep 0.2; done';

/** Runs a container that writes, takes snapshots of it and removes them, with all that is done to its files recorded. */
async function recordRun(store: TestStore): Promise<{ replay: Replay; log: Entry[] }> {
  const directory = join(store.root, 'containers');
  const recording = new Recording(directory, join(await temporaryDirectory(), 'log'));
  const program = await recordedProgram(recording.environment);
  const replay = Replay.ofDirectory(directory);
  const done = async (...args: string[]) =>
    expect(await execute(program, args, { env: { ...store.environment, ...recording.environment } }), args.join(' ')).toMatchObject({
      code: 0,
    });
  let count = 0;
  const writeFiles = async () => {
    for (const end = count + 3; count < end; count++) {
      const [line = ''] = contentOf(`f${count}`).split('\n');
      await done('exec', 'web', 'sh', '-c', `yes ${line} | head -n 500 | dd of=/root/f${count} conv=fsync 2>/dev/null`);
      recording.mark(`file f${count}`);
    }
  };
  const take = async (name: string) => {
    recording.mark(`taking ${name}`);
    await done('snapshot', 'create', name);
    recording.mark(`snapshot ${name}`);
  };
  const remove = async (name: string) => {
    recording.mark(`removing ${name}`);
    await done('snapshot', 'rm', '--wait', name);
    recording.mark(`removed ${name}`);
  };

  await done('start', 'web');
  await writeFiles();
  await take('web@mon');
  await writeFiles();
  await take('web@tue');
  await writeFiles();
  await remove('web@tue');
  await take('web@wed');
  await writeFiles();
  await remove('web@mon');
  await writeFiles();
  await done('stop', '-t', '0', 'web');
  return { replay, log: recording.take() };
}

describe('power cuts', { timeout: soakCount(40) * 60_000 }, () => {
  it('a container runs, with snapshots taken, absorbed and folded: its file system is clean, and what was synced is there', async () => {
    const store = await smallStore(['sh', '-c', churn]);
    const { replay, log } = await recordRun(store);
    const random = seededRandom();
    const place = await mkdtemp(join('/dev/shm', temporaryPrefix));
    cleanUp(() => rm(place, { recursive: true }));
    const states = soakCount(20_000);
    const options = { random, states, recovered: soakCount(600), names: ['web'], recoverer: await Recoverer.start() };
    const counts = await cutEverywhere(replay, log, new RunningExpectation(place), options);
    expect(counts.states).toBeGreaterThanOrEqual(states);
    console.log(`${log.length} entries, ${counts.states} cuts, ${counts.recovered} recovered, ${counts.recoverCuts} cuts within recover`);
  });
});
