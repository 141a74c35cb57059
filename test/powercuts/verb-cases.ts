import { join } from 'node:path';
import { changeDisk } from '../chain-view';
import type { TestStore } from '../store';
import { replaceTop } from './next-top';
import { sizeBytes } from './world';

/** A verb that changes the files of containers at rest. */
export interface VerbCase {
  verb: string[];
  /** What is done before, on an image. */
  before?: (store: TestStore) => Promise<void>;
  /** The containers that it is about; `web` unless told. */
  names?: string[];
  /** Whether the present is another afterwards. */
  restores?: boolean;
  /** The disk's size once, if it has grown since. */
  grownFrom?: number;
  /** Whether a storage server does some of it. */
  isServed?: boolean;
}

/** Snapshots, and something that has changed since each of them. */
export async function snapshots(store: TestStore, ...names: string[]): Promise<void> {
  for (const name of names) {
    await store.done('snapshot', 'create', `web@${name}`);
    await changeDisk(store, 'web', `rm -f root/big; head -c 150000 /dev/urandom > root/big; echo ${name} > root/since`);
  }
}

const direct = async (store: TestStore) => void (await store.done('set', 'web', '--attach', 'direct'));

/** A container that stands on the template. */
export const linked = async (store: TestStore) => void (await store.done('create', '--linked', '--template', 'small', 'site'));

export const verbCases: Record<string, VerbCase> = {
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
  'create --linked with a larger disk': {
    verb: ['create', '--linked', '--size', '128M', '--template', 'small', 'site'],
    names: ['site', 'web'],
    isServed: true,
  },
  'flatten of a linked container': { verb: ['flatten', 'site'], names: ['site', 'web'], before: linked },
};
