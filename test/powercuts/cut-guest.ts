import { join } from 'node:path';
import { openLayer } from '../../src/image/layer-file';
import { namesOfCommit } from '../../src/image/commit-top';
import { shell } from '../execute';
import type { TestStore } from '../store';
import { temporaryDirectory } from '../temporary';
import { type CampaignCounts, type CampaignOptions, cutEverywhere } from './campaign';
import { GuestExpectation } from './guest-expectation';
import { type Entry, Recording } from './log';
import { StateReader } from './reader';
import { prepareNext, replaceTop } from './next-top';
import { Recoverer } from './recoverer';
import { Replay } from './replay';
import { shownBy } from './verb-expectation';
import { sizeBytes } from './world';

export interface GuestOptions extends Omit<CampaignOptions, 'recoverer' | 'names'> {
  /** The files of the chain, bottom first. */
  files: string[];
  /** Whether a snapshot is taken in the middle. */
  switches?: boolean;
  /** Whether the disk becomes twice as large in the middle; the top is a new one then. */
  grows?: boolean;
  /** Changes what was recorded, or leaves it out: something that must be found. */
  fault?: (entry: Entry) => Entry | undefined;
  /** How much the guest does, before that and behind it. */
  steps: number;
}

/** Lets a guest write to the disk of `web` through the engine, and cuts the power at each moment of it. */
export async function cutGuest(store: TestStore, options: GuestOptions): Promise<CampaignCounts> {
  const { random, files, switches = false, grows = false, steps, fault = (entry) => entry } = options;
  const directory = join(store.root, 'containers');
  if (grows) {
    await replaceTop(directory, files.at(-2) ?? '', 2 * sizeBytes);
  }
  const layers: string[] = [];
  for (const fileName of files) {
    await using file = await openLayer(join(directory, fileName));
    layers.push(file.kind === 'delta' ? `${fileName}:${file.mapOffset}:${file.dataOffset}` : fileName);
  }
  const extension = files.at(-1)?.endsWith('.img') ? 'img' : 'delta';
  const commit = { directory, name: 'web', extension, kept: 'new' } as const;
  const names = switches
    ? ['--', ...Object.values(namesOfCommit(commit)), ...(await prepareNext(directory, `web.${extension}`, sizeBytes))]
    : [];

  const recording = new Recording(directory, join(await temporaryDirectory(), 'log'));
  const replay = Replay.ofDirectory(directory);
  const before = shownBy(new StateReader(replay.cut('lost', random)));
  const guest = join(import.meta.dirname, '../../build/test/powercut-guest');
  const size = grows ? `${sizeBytes}:${2 * sizeBytes}` : String(sizeBytes);
  const args = [directory, String(1 + random.below(1000)), String(steps), size, ...layers, ...names];
  await shell('env', ...Object.entries(recording.environment).map(([key, value]) => `${key}=${value}`), guest, ...args);
  const present = before.get('web') ?? [];
  before.delete('web');
  const expectation = new GuestExpectation(present, 'web@new', before);
  const log = recording.take().flatMap((entry) => fault(entry) ?? []);
  const counts = await cutEverywhere(replay, log, expectation, { ...options, names: ['web'], recoverer: await Recoverer.start() });
  expectation.holdsAtOnce(new StateReader(replay.cut('lost', random)));
  return counts;
}
