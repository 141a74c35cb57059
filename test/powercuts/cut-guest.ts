import { join } from 'node:path';
import { openLayer } from '../../src/image/layer-file';
import { namesOfCommit, prepareTop } from '../../src/image/commit-top';
import { readAt } from '../../src/image/file-io';
import type { Manifest } from '../../src/image/manifest';
import { shell } from '../execute';
import type { TestStore } from '../store';
import { temporaryDirectory } from '../temporary';
import { type CampaignCounts, type CampaignOptions, cutEverywhere } from './campaign';
import { GuestExpectation } from './guest-expectation';
import { type Entry, Recording } from './log';
import { StateReader } from './reader';
import { Recoverer } from './recoverer';
import { Replay } from './replay';
import { shownBy } from './verb-expectation';
import { sizeBytes } from './world';

export interface GuestOptions extends Omit<CampaignOptions, 'recoverer' | 'names'> {
  /** The files of the chain, bottom first. */
  files: string[];
  /** Whether a snapshot is taken in the middle. */
  switches: boolean;
  /** Changes what was recorded, or leaves it out: something that must be found. */
  fault?: (entry: Entry) => Entry | undefined;
  /** How much the guest does, before that and behind it. */
  steps: number;
}

/** Lets a guest write to the disk of `web` through the engine, and cuts the power at each moment of it. */
export async function cutGuest(store: TestStore, options: GuestOptions): Promise<CampaignCounts> {
  const { random, files, switches, steps, fault = (entry) => entry } = options;
  const directory = join(store.root, 'containers');
  const layers: string[] = [];
  for (const fileName of files) {
    await using file = await openLayer(join(directory, fileName));
    layers.push(file.kind === 'delta' ? `${fileName}:${file.mapOffset}:${file.dataOffset}` : fileName);
  }
  const extension = files.at(-1)?.endsWith('.img') ? 'img' : 'delta';
  const commit = { directory, name: 'web', extension, kept: 'new' } as const;
  const names = switches ? ['--', ...Object.values(namesOfCommit(commit)), ...(await prepareNext(directory, `web.${extension}`))] : [];

  const recording = new Recording(directory, join(await temporaryDirectory(), 'log'));
  const replay = Replay.ofDirectory(directory);
  const before = shownBy(new StateReader(replay.cut('lost', random)));
  const guest = join(import.meta.dirname, '../../build/test/powercut-guest');
  const args = [directory, String(1 + random.below(1000)), String(steps), String(sizeBytes), ...layers, ...names];
  await shell('env', ...Object.entries(recording.environment).map(([key, value]) => `${key}=${value}`), guest, ...args);
  const present = before.get('web') ?? [];
  before.delete('web');
  const expectation = new GuestExpectation(present, 'web@new', before);
  const log = recording.take().flatMap((entry) => fault(entry) ?? []);
  const counts = await cutEverywhere(replay, log, expectation, { ...options, names: ['web'], recoverer: await Recoverer.start() });
  expectation.holdsAtOnce(new StateReader(replay.cut('lost', random)));
  return counts;
}

/** The next top, as a snapshot of a running container prepares it. Returns where its map and data are. */
async function prepareNext(directory: string, top: string): Promise<string[]> {
  await using file = await openLayer(join(directory, top));
  const {
    kind: _,
    state,
    sizeBytes,
    parent: __,
    sealed: ___,
    snapshot: ____,
    ...manifest
  } = file.manifest as Manifest & { parent?: unknown };
  const block0 = file.kind === 'image' ? await readAt(file.fd, 0, 4096) : await readAt(file.fd, file.dataOffset, 4096);
  const { path } = await prepareTop({ directory, name: 'web', sizeBytes, parent: { state, hint: top }, block0, manifest });
  await using next = await openLayer(path);
  if (next.kind !== 'delta') throw new Error(`"${path}" is no delta`);
  return [String(next.mapOffset), String(next.dataOffset)];
}
