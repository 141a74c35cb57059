import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { assert } from 'vitest';
import { readBlocks } from '../../src/image/chain';
import { openDelta } from '../../src/image/delta-file';
import { writeAt } from '../../src/image/file-io';
import { parseFileName } from '../../src/image/file-names';
import type { MergeContext } from '../../src/image/merge-context';
import { KiB, MiB } from '../../src/units';
import type { SeededRandom } from '../fixtures';
import { superblockBytes } from '../unit/image/golden';
import { block, type Disk, diskOf, emptyDisk, Layers, withBlocks } from './layers';

let value = 0;

/** Random runs of blocks; 0 is a hole. Block 0 is there, as in each file that was a top. */
export function randomBlocks(random: SeededRandom, sizeBytes: number): Map<number, number> {
  const blocks = new Map([[0, ++value]]);
  for (let count = random.below(12); count > 0; count--) {
    const first = random.below(sizeBytes / block);
    const end = Math.min(first + 1 + random.below(60), sizeBytes / block);
    for (let index = Math.max(first, 1); index < end; index++) blocks.set(index, random.below(5) === 0 ? 0 : ++value);
  }
  return blocks;
}

/** The files of the container `web`, and what each of its states must show. */
export class ChainWorld {
  /** By what the user calls them: `web`, `web@mon`. */
  readonly wanted = new Map<string, Disk>();

  private constructor(
    readonly layers: Layers,
    readonly context: MergeContext,
  ) {}

  static async make(options: Partial<MergeContext> = {}, directory?: string): Promise<ChainWorld> {
    const layers = await Layers.make(directory);
    return new ChainWorld(layers, mergeContext(layers.directory, options));
  }

  async image(fileName: string, disk: Disk): Promise<Node> {
    const state = await this.layers.image(fileName, disk, { sealed: fileName.includes('@') });
    return this.#node(fileName, state, disk);
  }

  /** A file that was a top, or is: it owns block 0, a superblock in it. */
  async delta(fileName: string, parent: Node, blocks: Map<number, number>, sizeBytes = parent.disk.length * block): Promise<Node> {
    const state = await this.layers.delta(fileName, parent.state, blocks, { sizeBytes });
    await using file = await openDelta(this.layers.path(fileName), { write: true });
    await writeAt(file.fd, file.dataOffset + KiB, superblockBytes({ sizeBytes: MiB }));
    if (fileName.includes('@')) await this.layers.seal(fileName);
    return this.#node(fileName, state, withBlocks(parent.disk, blocks, sizeBytes));
  }

  #node(fileName: string, state: string, disk: Disk): Node {
    const name = userName(fileName);
    if (name !== undefined) this.wanted.set(name, disk);
    return { fileName, state, disk };
  }

  names(): string[] {
    return readdirSync(this.layers.directory).sort();
  }

  /** The file of a state, whatever kind it is by now. */
  fileOf(name: string): string {
    const files = this.names().filter((fileName) => userName(fileName) === name);
    // A delta may still be there that an image has replaced.
    return files.find((fileName) => fileName.endsWith('.img')) ?? files[0] ?? `${name} is missing`;
  }

  /** The file that shows the state of this one: a fold that was cut right after its commit has yet to give the image the name. */
  async #providerOf(fileName: string): Promise<string> {
    const index = await this.layers.scan();
    const file = index.files.find((one) => one.fileName === fileName);
    const providers = file ? index.providers(file.manifest.state, file) : [];
    // An image that is the present is not sealed, and so comes last: nobody stands on it.
    return providers.find(({ manifest }) => manifest.kind === 'image')?.fileName ?? fileName;
  }

  /** Every state shows what it did; read by loopbox, and at will by the reader that shares no code with it. */
  async expectAll({ independent = false, recovered = true } = {}): Promise<void> {
    for (const [name, disk] of this.wanted) {
      const fileName = this.fileOf(name);
      // An image has lost its state, and what is kept of it has not taken the name yet: only recover does that.
      if (!recovered && name !== 'web' && this.names().some((one) => one.includes('@') && one.endsWith('.next'))) continue;
      await using chain = await this.layers.chain(recovered ? fileName : await this.#providerOf(fileName));
      assert.deepEqual({ name, disk: diskOf(await readBlocks(chain, 0, chain.sizeBytes)) }, { name, disk });
      if (independent) assert.deepEqual({ name, disk: await this.layers.view(fileName) }, { name, disk });
    }
  }
}

export interface Node {
  fileName: string;
  state: string;
  disk: Disk;
}

export function mergeContext(directory: string, options: Partial<MergeContext> = {}): MergeContext {
  return {
    name: 'web',
    containersDirectory: directory,
    templatesDirectory: join(directory, 'templates'),
    takeStructureLock: async () => ({ [Symbol.asyncDispose]: async () => {} }),
    live: async () => undefined,
    pause: async () => {},
    batchBytes: MiB,
    ...options,
  };
}

/** A tree of files with names and without, of one to four sizes; the last is the present. */
export async function randomWorld(random: SeededRandom, options: Partial<MergeContext> = {}): Promise<ChainWorld> {
  const world = await ChainWorld.make(options);
  const sizes = [2, 4, 4, 6].map((size) => size * MiB);
  const nameOf = (number: number, extension: string) => (random.below(2) ? `web@~${number}.${extension}` : `web@s${number}.${extension}`);
  const first = random.pick(sizes);
  const nodes = [await world.image(nameOf(0, 'img'), withBlocks(emptyDisk(first), randomBlocks(random, first), first))];
  const count = 1 + random.below(4);
  for (let number = 1; number <= count; number++) {
    const parent = random.below(4) ? (nodes.at(-1) as Node) : random.pick(nodes);
    const size = random.below(3) ? parent.disk.length * block : random.pick(sizes);
    nodes.push(await world.delta(nameOf(number, 'delta'), parent, randomBlocks(random, size), size));
  }
  const last = random.below(4) ? (nodes.at(-1) as Node) : random.pick(nodes);
  await world.delta('web.delta', last, randomBlocks(random, last.disk.length * block));
  return world;
}

function userName(fileName: string): string | undefined {
  const parsed = parseFileName(fileName);
  if (parsed?.role === 'top') return parsed.name;
  return parsed?.role === 'snapshot' ? `${parsed.name}@${parsed.snapshot}` : undefined;
}

/** Takes the first `count` steps, as a kill would leave it. Returns how many there were, and the last. */
export async function cutAfter(steps: AsyncGenerator<string>, count: number): Promise<{ taken: number; step: string }> {
  let taken = 0;
  let step = 'nothing';
  while (taken < count) {
    const next = await steps.next();
    if (next.done) break;
    taken++;
    step = next.value;
  }
  await steps.return(undefined);
  return { taken, step };
}

/** Nothing without a name is left that a single file, or none, stands on. */
export async function expectPlain(world: ChainWorld): Promise<void> {
  const index = await world.layers.scan();
  for (const file of index.files) {
    assert.isUndefined(file.manifest.fold, file.fileName);
    if (file.parsed?.role === 'nameless' || file.parsed?.role === 'fold')
      assert.notEqual(index.children(file.manifest.state).length, 1, file.fileName);
  }
}
