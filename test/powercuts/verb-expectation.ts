import type { Expectation } from './campaign';
import { pageBytes } from './content';
import type { StateReader, View } from './reader';

/** What each name that a user knows shows: `web`, `web@mon`. */
export type Shown = Map<string, Buffer[]>;

/** All states that a user has names for. */
export function shownBy(reader: StateReader): Shown {
  return new Map([...named(reader)].map(([name, path]) => [name, reader.view(path).blocks()]));
}

/** The paths of those states. */
export function named(reader: StateReader): Map<string, string> {
  const names = new Map<string, string>();
  for (const path of reader.files.keys()) {
    const [, name, extension] = /^([^~/]*)\.(img|delta)$/.exec(path) ?? [];
    // A delta may still be there that an image has replaced.
    if (name !== undefined && (extension === 'img' || !names.has(name))) names.set(name, path);
  }
  return names;
}

/** Of a verb that leaves either what was, or what is at its end. */
export class VerbExpectation implements Expectation {
  readonly #known = new Map<string, number>();

  constructor(
    private readonly before: Shown,
    private readonly after: Shown,
    /** Where an image that grows for a fold had its manifest: until recover, deltas on it may show that. */
    private readonly grownFrom = -1,
  ) {}

  see(): void {}

  holdsAtOnce(reader: StateReader): void {
    for (const [name, path] of named(reader)) {
      const view = reader.view(reader.emptiedInto(path) ?? path);
      const differences = [this.before, this.after].map((shown) =>
        this.#difference(view, name, shown, path.endsWith('.delta') ? this.grownFrom : -1),
      );
      if (!differences.includes(-1)) throw new Error(`"${path}" shows what it never was; block ${differences.join(' or ')} differs`);
    }
  }

  holdsRecovered(reader: StateReader): void {
    expectNothingHalfMade(reader);
    const names = named(reader);
    const wrong = [this.before, this.after].map((shown) => {
      if ([...shown.keys()].sort().join() !== [...names.keys()].sort().join()) return `names are ${[...names.keys()].join(' ')}`;
      const other = [...names].find(([name, path]) => this.#difference(reader.view(path), name, shown) !== -1);
      return other && `"${other[1]}" differs`;
    });
    if (!wrong.includes(undefined)) throw new Error(`Neither before (${wrong[0]}) nor after (${wrong[1]})`);
    expectOneContentEach(reader);
  }

  /** The first block that differs; -1 for none, 0 also for no such name. */
  #difference(view: View, name: string, shown: Shown, besides = -1): number {
    const blocks = shown.get(name);
    if (!blocks) return 0;
    const key = `${shown === this.before} ${name} ${besides} ${view.key}`;
    const difference = this.#known.get(key) ?? differenceOf(view, blocks, besides);
    this.#known.set(key, difference);
    return difference;
  }
}

function differenceOf(view: View, blocks: readonly Buffer[], besides: number): number {
  const count = view.sizeBytes / pageBytes;
  return count === blocks.length ? view.differsFrom(blocks, besides) : Math.min(count, blocks.length);
}

/** Nothing that was prepared is left. */
export function expectNothingHalfMade(reader: StateReader): void {
  const halfMade = reader.others.filter((path) => path.endsWith('.next') || path.includes('.tmp-'));
  if (halfMade.length > 0) throw new Error(`Left: ${halfMade.join(' ')}`);
}

/** A state is one content: whatever sealed files have it show the same. */
export function expectOneContentEach(reader: StateReader): void {
  const shown = new Map<string, { path: string; view: View }>();
  for (const { path, manifest } of reader.files.values()) {
    if (!manifest.sealed || manifest.fold) continue;
    const view = reader.view(path);
    const other = shown.get(manifest.state);
    if (other && view.differsFrom(other.view.blocks()) >= 0)
      throw new Error(`"${path}" and "${other.path}" have one state and two contents`);
    shown.set(manifest.state, { path, view });
  }
}
