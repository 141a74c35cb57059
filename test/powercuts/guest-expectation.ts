import type { Expectation } from './campaign';
import { pageBytes, sectorBytes } from './content';
import type { Entry } from './log';
import type { StateReader, View } from './reader';
import { expectNothingHalfMade, expectOneContentEach, named } from './verb-expectation';

/** A write of a block, by its number; 0 is zeroes, -1 what was there at first. */
type Write = number;

interface Block {
  /** All of them, in their order: none overlaps another. */
  writes: Write[];
  /** How many have been answered. */
  answered: number;
  /** The index of the one that a flush has made durable: it, or a later one, is there after a cut. */
  durable: number;
}

/** Of a served disk: the guest's writes as it was told of them, by `native/test/powercut-guest.cc`. */
export class GuestExpectation implements Expectation {
  readonly #blocks = new Map<number, Block>();
  readonly #requests = new Map<number, () => void>();
  /** What the snapshot shows, from the moment on that nothing was under way: which of each block's writes. */
  #frozen: Map<number, number> | undefined;
  #looks = 0;
  /** Views that are known to be right, by name and key. */
  readonly #known = new Set<string>();

  constructor(
    private readonly initial: readonly Buffer[],
    /** The name of the snapshot that is taken meanwhile. */
    private readonly snapshot: string,
    /** The names that are there at first, and what they show. */
    private readonly others: ReadonlyMap<string, readonly Buffer[]>,
  ) {}

  see({ kind, path }: Entry): void {
    if (kind !== 'mark') return;
    const [what, ...numbers] = path.trim().split(' ');
    const [id = 0, first = 0, count = 0, write = 0] = numbers.map(Number);
    if (what === 'write') this.#requests.set(id, this.#write(first, count, write));
    else if (what === 'flush') this.#requests.set(id, this.#flush());
    else if (what === 'answered') this.#requests.get(id)?.();
    else if (what === 'quiet') this.#frozen = new Map([...this.#blocks].map(([index, { writes }]) => [index, writes.length - 1]));
    else if (what === 'switched') this.#switched();
    else throw new Error(`The guest says "${path}"`);
  }

  #write(first: number, count: number, write: Write): () => void {
    const blocks = Array.from({ length: count }, (_, index) => this.#block(first + index));
    for (const block of blocks) block.writes.push(write);
    return () => {
      for (const block of blocks) block.answered = block.writes.length;
    };
  }

  /** What has been answered when it begins is durable when it is answered. */
  #flush(): () => void {
    const answered = [...this.#blocks.values()].map((block) => ({ block, index: block.answered - 1 }));
    return () => {
      for (const { block, index } of answered) block.durable = Math.max(block.durable, index);
    };
  }

  #switched(): void {
    for (const [index, last] of this.#frozen ?? []) {
      const block = this.#block(index);
      block.durable = Math.max(block.durable, last);
    }
  }

  #block(index: number): Block {
    const block = this.#blocks.get(index) ?? { writes: [-1], answered: 1, durable: 0 };
    this.#blocks.set(index, block);
    return block;
  }

  holdsAtOnce(reader: StateReader): void {
    for (const [name, path] of named(reader)) this.#holds(name, reader.view(path));
  }

  holdsRecovered(reader: StateReader): void {
    expectNothingHalfMade(reader);
    const names = named(reader);
    for (const name of ['web', ...this.others.keys()]) if (!names.has(name)) throw new Error(`"${name}" is gone`);
    for (const [name, path] of names) this.#holds(name, reader.view(path));
    expectOneContentEach(reader);
  }

  #holds(name: string, view: View): void {
    const wrong = name === 'web' ? this.#presentDiffers(view) : this.#frozenDiffers(name, view);
    if (wrong === undefined) return;
    const block = this.#blocks.get(wrong);
    throw new Error(`"${name}" shows what it never was in block ${wrong}: ${describe(view.block(wrong))}; ${JSON.stringify(block)}`);
  }

  #frozenDiffers(name: string, view: View): number | undefined {
    const key = `${name} ${view.key}`;
    const shown = this.others.get(name) ?? (name === this.snapshot ? this.#frozenBlocks() : undefined);
    if (!shown) return 0;
    if (this.#known.has(key)) return undefined;
    const wrong = view.differsFrom(shown);
    if (wrong >= 0) return wrong;
    this.#known.add(key);
    return undefined;
  }

  #frozenBlocks(): Buffer[] | undefined {
    const frozen = this.#frozen;
    if (!frozen) return undefined;
    const writeOf = (index: number) => this.#blocks.get(index)?.writes[frozen.get(index) ?? 0] ?? -1;
    return this.initial.map((initial, index) => contentOf(index, writeOf(index), initial));
  }

  #presentDiffers(view: View): number | undefined {
    for (const [index, block] of this.#blocks) if (!this.#isOneOf(index, view.block(index), block)) return index;
    // What the guest never wrote to takes most of the time, and is looked at now and then.
    if (this.#looks++ % 8 > 0) return undefined;
    for (const [index, initial] of this.initial.entries()) {
      if (index === 0 || this.#blocks.has(index)) continue;
      const found = view.block(index);
      if (found !== initial && !found.equals(initial)) return index;
    }
    return view.sizeBytes === this.initial.length * pageBytes ? undefined : this.initial.length;
  }

  /** Each sector is of the last durable write, or of a later one. */
  #isOneOf(index: number, found: Buffer, { writes, durable }: Block): boolean {
    const initial = this.initial[index] as Buffer;
    const possible = writes.slice(durable).map((write) => contentOf(index, write, initial));
    if (possible.findLast((content) => content === found || content.equals(found))) return true;
    for (let at = 0; at < pageBytes; at += sectorBytes) {
      const sector = found.subarray(at, at + sectorBytes);
      if (!possible.some((content) => content.subarray(at, at + sectorBytes).equals(sector))) return false;
    }
    return true;
  }
}

const contents = new Map<string, Buffer>();

/** As `FillBlock` in native/test/chain-files.h. */
function contentOf(index: number, write: Write, initial: Buffer): Buffer {
  if (write === -1) return initial;
  const known = contents.get(`${index} ${write}`);
  if (known) return known;
  const content = Buffer.alloc(pageBytes);
  const words = write === 0 ? 0 : pageBytes / 8;
  for (let word = 0; word < words; word++)
    content.writeBigUInt64LE((BigInt(index) << 40n) | (BigInt(write) << 9n) | BigInt(word), word * 8);
  contents.set(`${index} ${write}`, content);
  return content;
}

function describe(block: Buffer): string {
  const sectors = Array.from({ length: pageBytes / sectorBytes }, (_, index) => block.readBigUInt64LE(index * sectorBytes));
  return sectors.map((word) => `${word >> 40n}/${(word >> 9n) & 0x7fffffffn}`).join(' ');
}
