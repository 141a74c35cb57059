import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { changeDisk } from '../chain-view';
import { seededRandom, soakCount, type TestStore } from '../fixtures';
import type { CampaignCounts } from '../powercuts/campaign';
import { cutGuest } from '../powercuts/cut-guest';
import { cutVerb } from '../powercuts/cut-verb';
import type { Entry } from '../powercuts/log';
import { replaceTop } from '../powercuts/next-top';
import { sizeBytes, smallStore } from '../powercuts/world';

interface Case {
  verb: string[];
  /** What is done before, on an image. */
  before?: (store: TestStore) => Promise<void>;
  /** The containers that it is about; `web` unless told. */
  names?: string[];
  /** Whether the present is another afterwards. */
  restores?: boolean;
  /** The disk's size once, if it has grown since. */
  grownFrom?: number;
}

/** Snapshots, and something that has changed since each of them. */
async function snapshots(store: TestStore, ...names: string[]): Promise<void> {
  for (const name of names) {
    await store.done('snapshot', 'create', `web@${name}`);
    await changeDisk(store, 'web', `rm -f root/big; head -c 150000 /dev/urandom > root/big; echo ${name} > root/since`);
  }
}

const direct = async (store: TestStore) => void (await store.done('set', 'web', '--attach', 'direct'));

const cases: Record<string, Case> = {
  'snapshot as a whole image': { verb: ['snapshot', 'create', 'web@new'], before: direct },
  'restore of a whole image': {
    verb: ['snapshot', 'restore', 'web@mon'],
    restores: true,
    before: async (store) => {
      await direct(store);
      await snapshots(store, 'mon');
    },
  },
  'snapshot of an image': { verb: ['snapshot', 'create', 'web@new'] },
  'snapshot of a delta': { verb: ['snapshot', 'create', 'web@new'], before: (store) => snapshots(store, 'mon') },
  restore: { verb: ['snapshot', 'restore', 'web@mon'], before: (store) => snapshots(store, 'mon', 'tue'), restores: true },
  'snapshot rm with absorb': { verb: ['snapshot', 'rm', '--wait', 'web@tue'], before: (store) => snapshots(store, 'mon', 'tue', 'wed') },
  'snapshot rm with fold': { verb: ['snapshot', 'rm', '--wait', 'web@mon'], before: (store) => snapshots(store, 'mon', 'tue') },
  settle: { verb: ['settle', 'web'], before: (store) => snapshots(store, 'mon', 'tue') },
  'settle of a disk that has grown': {
    verb: ['settle', 'web'],
    grownFrom: sizeBytes,
    before: async (store) => {
      await snapshots(store, 'mon');
      await replaceTop(join(store.root, 'containers'), 'web@mon.img', 2 * sizeBytes);
      await changeDisk(store, 'web', 'echo now > root/since');
    },
  },
  'flatten of a chain': { verb: ['flatten', 'web'], before: (store) => snapshots(store, 'mon') },
  rename: { verb: ['rename', 'web', 'site'], names: ['web', 'site'], before: (store) => snapshots(store, 'mon') },
  set: { verb: ['set', 'web', '--pids', '50', '--label', 'a=b'] },
  'create --linked': { verb: ['create', '--linked', '--template', 'small', 'site'], names: ['site', 'web'] },
  'flatten of a linked container': {
    verb: ['flatten', 'site'],
    names: ['site', 'web'],
    before: async (store) => void (await store.done('create', '--linked', '--template', 'small', 'site')),
  },
};

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

  it.each(Object.entries(cases))(
    '%s: at every cut the names tell the truth, and recover leaves what was or what shall be',
    async (title, one) => {
      const { verb, before, names = ['web'], ...how } = one;
      const store = await smallStore();
      await before?.(store);
      report(title, await cutVerb(store, verb, { ...amount(), ...how, names }));
    },
  );
});

/** How many cuts, and how many of them are recovered. */
function amount() {
  return { random: seededRandom(), states: soakCount(20_000), recovered: soakCount(600) };
}

function report(title: string, counts: CampaignCounts): void {
  console.log(`${title}: ${counts.states} cuts, ${counts.recovered} recovered, ${counts.recoverCuts} cuts within recover`);
  expect(counts.states).toBeGreaterThanOrEqual(soakCount(20_000));
  expect(counts.recovered).toBeGreaterThan(0);
}
