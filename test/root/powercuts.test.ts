import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { changeDisk } from '../chain-view';
import { execute } from '../execute';
import { FailingDisk } from '../failing-disk';
import { seededRandom, soakCount } from '../fixtures';
import type { CampaignCounts } from '../powercuts/campaign';
import { cutGuest } from '../powercuts/cut-guest';
import { cutVerb, cutWork } from '../powercuts/cut-verb';
import type { Entry } from '../powercuts/log';
import { linked, snapshots, verbCases } from '../powercuts/verb-cases';
import type { Shown } from '../powercuts/verb-expectation';
import { sizeBytes, smallStore } from '../powercuts/world';

const guests: Record<string, { files: string[]; switches?: boolean; grows?: boolean; before?: string[] }> = {
  'writes on an image': { files: ['web.img'] },
  'writes on a delta': { files: ['web@mon.img', 'web.delta'], before: ['mon'] },
  'writes on a disk that grows': { files: ['web@mon.img', 'web.delta'], grows: true, before: ['mon'] },
  'a snapshot of a served image': { files: ['web.img'], switches: true },
  'a snapshot of a served delta': { files: ['web@mon.img', 'web@tue.delta', 'web.delta'], switches: true, before: ['mon', 'tue'] },
};

/** What the recorder must see of a disk that is written to: without it, it is found to lose what it must not. */
const faults: Record<string, (entry: Entry) => Entry | undefined> = {
  'nothing is synced': (entry) => (entry.kind === 'sync' ? undefined : entry),
  'the map does not wait for the data': (entry) => ({ ...entry, after: 0n }),
};

describe('power cuts', { timeout: soakCount(40) * 60_000 }, () => {
  it.each(Object.entries(guests))('%s: what was flushed is there, each sector is an old or a new one', async (title, one) => {
    const { before = [], ...how } = one;
    const store = await smallStore();
    await snapshots(store, ...before);
    const counts = await cutGuest(store, { ...how, ...amount(), steps: 100 });
    report(title, counts);
  });

  it.each(Object.entries(faults))('a fault is found: %s', async (_, fault) => {
    const store = await smallStore();
    await snapshots(store, 'mon');
    const cut = cutGuest(store, { files: ['web@mon.img', 'web.delta'], ...amount(), steps: 100, fault });
    await expect(cut).rejects.toThrow(/shows what it never was/);
  });

  it.each(['file', 'directory'] as const)('a fault is found: no %s is synced', async (fault) => {
    const store = await smallStore();
    await snapshots(store, 'mon', 'tue');
    await expect(cutVerb(store, ['settle', 'web'], { ...amount(), names: ['web'], fault })).rejects.toThrow(/^cut after/);
  });

  it.each(Object.entries(verbCases))(
    '%s: at every cut the names tell the truth, and recover leaves what was or what shall be',
    async (title, one) => {
      const { verb, before, names = ['web'], ...how } = one;
      const store = await smallStore();
      await before?.(store);
      report(title, await cutVerb(store, verb, { ...amount(), ...how, names }));
    },
  );

  it.each([
    { what: 'its second rename', failure: { operations: ['rename'], path: '*/web.delta' }, before: [] },
    // The first is of the prepared top.
    { what: 'the sync of its names', failure: { operations: ['sync'], path: '*/containers', first: 2, last: 2 }, before: [] },
    { what: 'the sync of the manifest', failure: { operations: ['sync'], path: '*/web@new.delta', first: 2, last: 2 }, before: ['mon'] },
  ])('a snapshot that is taken back because $what fails: at every cut it is there, or it is not', async ({ failure, before }) => {
    const store = await smallStore();
    await snapshots(store, ...before);
    const disk = await FailingDisk.create();
    const run = async (environment: Record<string, string>) => {
      disk.fail(failure);
      // What fails is not recorded: it has not been.
      const preloaded = { LD_PRELOAD: `${disk.environment.LD_PRELOAD} ${environment.LD_PRELOAD}` };
      const result = await store.loopbox(['snapshot', 'create', 'web@new'], { env: { ...environment, ...disk.environment, ...preloaded } });
      expect(disk.failed).toHaveLength(1);
      return result;
    };
    const takenBack = (shown: Shown) => new Map([...shown, ['web@new', shown.get('web') ?? []]]);
    const states = soakCount(3_000);
    const counts = await cutWork(store, run, { random: seededRandom(), states, recovered: soakCount(300), names: ['web'], takenBack });
    expect(counts.states).toBeGreaterThanOrEqual(states);
    expect(counts.recovered).toBeGreaterThan(0);
  });

  it('grow of a linked container at rest: at every cut its disk is as large as before, or as it shall be', async () => {
    const store = await smallStore();
    await linked(store);
    await changeDisk(store, 'site', 'echo now > root/since');
    const grow = (env: Record<string, string>) =>
      execute(process.execPath, [join(import.meta.dirname, '../powercuts/grow-child.cjs'), store.fileOf('site'), String(2 * sizeBytes)], {
        env,
      });
    report('grow of a delta', await cutWork(store, grow, { ...amount(), names: ['site', 'web'] }));
  });
});

/** How many cuts, and how many of them are recovered. */
function amount() {
  return { random: seededRandom(), states: soakCount(20_000), recovered: soakCount(600) };
}

function report(title: string, counts: CampaignCounts): void {
  const { states, recovered, recoverCuts, kills } = counts;
  console.log(`${title}: ${states} cuts, ${recovered} recovered, ${kills} kills, ${recoverCuts} cuts within recover`);
  expect(states).toBeGreaterThanOrEqual(soakCount(20_000));
  expect(recovered).toBeGreaterThan(0);
}
