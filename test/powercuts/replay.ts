import { mkdirSync, readdirSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { SeededRandom } from '../counts';
import { Content, pageBytes, sectorBytes } from './content';
import type { Entry } from './log';

/** A file, with what was done to it since it was last synced. */
interface Inode {
  durable: Content;
  pending: Change[];
}

interface Change {
  entry: Entry;
  isEnded: boolean;
}

type Names = Map<string, Inode>;

/** Something that was done to a directory's names; `find` gives the file that is meant. */
type NamesChange = (names: Names, find: (file: Inode) => Inode) => void;

interface Directory {
  durable: Names;
  pending: NamesChange[];
}

const itself = (file: Inode) => file;

interface Sync {
  entry: Entry;
  /** Makes durable what had ended when it began. */
  finish: () => void;
  /** The changes of a file that it covers. */
  covered: Set<Change>;
}

/** What a power cut leaves: each path's content. */
export type CutState = Map<string, Content>;

/** How a cut treats what is not synced. */
export type Fate = 'lost' | 'kept' | 'random';

/**
 * The files below a directory, as a log tells of them, entry by entry. At each moment a cut leaves, of each file, what was synced,
 * with any of the later writes, each of them torn into sectors or whole; of each directory, what was synced and any first part of
 * what was done to it since. What has ended counts as synced only with an fsync that began after its end.
 */
export class Replay {
  readonly #current = new Map<number, Inode>();
  readonly #directories = new Map<string, Directory>();
  readonly #changes = new Map<bigint, Change>();
  readonly #syncs = new Map<bigint, Sync>();
  readonly #directoryInodes = new Map<number, string>();

  /** Begins with what is in a directory, all of it durable. */
  static ofDirectory(root: string): Replay {
    const replay = new Replay();
    const visit = (directory: string) => {
      replay.#directoryInodes.set(statSync(join(root, directory)).ino, directory);
      for (const entry of readdirSync(join(root, directory), { withFileTypes: true })) {
        const path = join(directory, entry.name);
        if (entry.isDirectory()) visit(path);
        if (entry.isFile()) replay.#add(path, statSync(join(root, path)).ino, Content.ofFile(join(root, path)));
      }
    };
    visit('.');
    return replay;
  }

  /** Begins with a state that was written out below a directory. */
  static ofState(root: string, state: CutState): Replay {
    const replay = new Replay();
    replay.#directoryInodes.set(statSync(root).ino, '.');
    for (const [path, content] of state) replay.#add(path, statSync(join(root, path)).ino, content.copy());
    return replay;
  }

  /**
   * Goes on from here with the files below a directory, which are those of `cut('kept')`: as after a kill, all is there, and what was not synced
   * still is not. This must not go on meanwhile.
   */
  goOnIn(root: string): Replay {
    const replay = new Replay();
    const copies = new Map<Inode, Inode>();
    const copyOf = (file: Inode): Inode => {
      const known = copies.get(file);
      if (known) return known;
      const copy = { durable: file.durable.copy(), pending: file.pending.map(({ entry }) => ({ entry, isEnded: true })) };
      copies.set(file, copy);
      return copy;
    };
    const ofCopies =
      (change: NamesChange): NamesChange =>
      (names, find) =>
        change(names, (file) => find(copyOf(file)));
    replay.#directoryInodes.set(statSync(root).ino, '.');
    for (const [name, { durable, pending }] of this.#directories) {
      const directory = {
        durable: new Map([...durable].map(([path, file]) => [path, copyOf(file)])),
        pending: pending.map(ofCopies),
      };
      replay.#directories.set(name, directory);
      const names = new Map(directory.durable);
      for (const change of directory.pending) change(names, itself);
      for (const [path, file] of names) replay.#current.set(statSync(join(root, path)).ino, file);
    }
    return replay;
  }

  #add(path: string, inode: number, durable: Content): void {
    const file = { durable, pending: [] };
    this.#current.set(inode, file);
    this.#directory(path).durable.set(path, file);
  }

  /** A step further. */
  apply(entry: Entry): void {
    const { kind, path, other } = entry;
    if (kind === 'sync') this.#begin(entry);
    else if (kind === 'end') this.#end(entry.id);
    else if (kind === 'create') this.#create(entry);
    else if (kind === 'link') this.#link(path, this.#file(entry));
    else if (kind === 'unlink') this.#name(path, (names) => names.delete(path));
    else if (kind === 'rename') this.#rename(path, other);
    else if (kind !== 'mark') this.#change(entry);
  }

  #file({ inode, path }: Entry): Inode {
    const file = this.#current.get(inode);
    if (!file) throw new Error(`The log tells of a file ${inode} ("${path}") that was not there`);
    return file;
  }

  #directory(path: string): Directory {
    const name = dirname(path);
    const directory = this.#directories.get(name) ?? { durable: new Map(), pending: [] };
    this.#directories.set(name, directory);
    return directory;
  }

  #name(path: string, change: NamesChange): void {
    this.#directory(path).pending.push(change);
  }

  #link(path: string, file: Inode): void {
    this.#name(path, (names, find) => names.set(path, find(file)));
  }

  #create(entry: Entry): void {
    const file = { durable: Content.empty(), pending: [] };
    this.#current.set(entry.inode, file);
    if (entry.path) this.#link(entry.path, file);
  }

  #rename(from: string, to: string): void {
    if (dirname(from) !== dirname(to)) throw new Error(`"${from}" goes to another directory: "${to}"`);
    this.#name(from, (names) => {
      const file = names.get(from);
      if (!file) throw new Error(`The log renames "${from}", which is not there`);
      names.delete(from);
      names.set(to, file);
    });
  }

  #change(entry: Entry): void {
    const change = { entry, isEnded: entry.id === 0n };
    this.#file(entry).pending.push(change);
    if (!change.isEnded) this.#changes.set(entry.id, change);
  }

  #begin(entry: Entry): void {
    const place = this.#directoryInodes.get(entry.inode);
    if (place !== undefined) {
      const directory = this.#directory(join(place, 'x'));
      const last = directory.pending.at(-1);
      const finish = () => {
        const count = last ? directory.pending.indexOf(last) + 1 : 0;
        for (const change of directory.pending.splice(0, count)) change(directory.durable, itself);
      };
      this.#syncs.set(entry.id, { entry, finish, covered: new Set() });
      return;
    }
    const file = this.#file(entry);
    const before = this.#chainBefore(entry);
    const covered = new Set(file.pending.filter((change) => change.isEnded || before.has(change.entry.id)));
    const finish = () => {
      for (const change of file.pending) if (covered.has(change)) perform(file.durable, change.entry);
      file.pending = file.pending.filter((change) => !covered.has(change));
    };
    this.#syncs.set(entry.id, { entry, finish, covered });
  }

  /** The ids of what an entry of a ring is linked to. */
  #chainBefore({ after }: Entry): Set<bigint> {
    const ids = new Set<bigint>();
    for (let id = after; id !== 0n && !ids.has(id); ) {
      ids.add(id);
      id = this.#changes.get(id)?.entry.after ?? this.#syncs.get(id)?.entry.after ?? 0n;
    }
    return ids;
  }

  #end(id: bigint): void {
    const change = this.#changes.get(id);
    if (change) change.isEnded = true;
    this.#changes.delete(id);
    this.#syncs.get(id)?.finish();
    this.#syncs.delete(id);
  }

  /** Whether a cut may have effects at all that are not durable. */
  get isAtRest(): boolean {
    const files = [...this.#current.values()];
    return (
      files.every(({ pending }) => pending.length === 0) && [...this.#directories.values()].every(({ pending }) => pending.length === 0)
    );
  }

  /** What a cut now leaves. `random` counts only where the fate is. */
  cut(fate: Fate, random: SeededRandom): CutState {
    const plan = new CutPlan(fate, random, this.#changes, this.#syncs);
    const contents = new Map<Inode, Content>();
    const state: CutState = new Map();
    for (const { durable, pending } of this.#directories.values()) {
      const names = new Map(durable);
      const count = fate === 'lost' ? 0 : fate === 'kept' ? pending.length : random.below(pending.length + 1);
      for (const change of pending.slice(0, count)) change(names, itself);
      for (const [path, file] of names) {
        const content = contents.get(file) ?? plan.contentOf(file);
        contents.set(file, content);
        state.set(path, content);
      }
    }
    return state;
  }
}

/** What one cut does to the writes that are not durable. */
class CutPlan {
  readonly #ended = new Map<bigint, boolean>();
  readonly #forced = new Set<Change>();
  /** Out of 8: how many of the changes come through. */
  readonly #share: number;

  constructor(
    private readonly fate: Fate,
    private readonly random: SeededRandom,
    private readonly changes: Map<bigint, Change>,
    private readonly syncs: Map<bigint, Sync>,
  ) {
    this.#share = random.below(9);
    // A chain may have come further than was seen.
    for (const { entry, covered } of syncs.values())
      if (entry.after !== 0n && this.#hasEnded(entry.id)) for (const change of covered) this.#forced.add(change);
    for (const change of changes.values()) this.#hasEnded(change.entry.after);
    for (const [id, { covered }] of syncs) if (this.#ended.get(id)) for (const change of covered) this.#forced.add(change);
  }

  /** Whether what was sent had ended in this world. What it is linked to has, then. */
  #hasEnded(id: bigint): boolean {
    const entry = this.changes.get(id)?.entry ?? this.syncs.get(id)?.entry;
    if (!entry) return true;
    const known = this.#ended.get(id);
    if (known !== undefined) return known;
    const ended = this.#hasEnded(entry.after) && (this.fate === 'random' ? this.random.below(2) === 0 : this.fate === 'kept');
    this.#ended.set(id, ended);
    return ended;
  }

  contentOf({ durable, pending }: Inode): Content {
    const content = durable.copy();
    for (const change of pending) {
      if (this.#forced.has(change)) perform(content, change.entry);
      else if (this.#hasEnded(change.entry.after)) this.#perhaps(content, change.entry);
    }
    return content;
  }

  #perhaps(content: Content, entry: Entry): void {
    if (this.fate === 'lost') return;
    if (this.fate === 'kept') return perform(content, entry);
    const { random } = this;
    if (random.below(8) >= this.#share) return;
    const unit = entry.kind === 'write' ? sectorBytes : pageBytes;
    const end = entry.offset + (entry.kind === 'write' ? entry.data.length : entry.length);
    const isWhole = entry.kind === 'setLength' || entry.kind === 'extend' || end - entry.offset <= unit || random.below(2) === 0;
    if (isWhole) return perform(content, entry);
    // Torn: its beginning, or any of its sectors.
    const units = Math.ceil(end / unit) - Math.floor(entry.offset / unit);
    const first = random.below(2) ? random.below(units) : units;
    for (let index = 0; index < first; index++) {
      if (first === units && random.below(2)) continue;
      const from = Math.max(entry.offset, (Math.floor(entry.offset / unit) + index) * unit);
      const to = Math.min(end, (Math.floor(entry.offset / unit) + index + 1) * unit);
      perform(content, { ...entry, offset: from, length: to - from, data: entry.data.subarray(from - entry.offset, to - entry.offset) });
    }
  }
}

function perform(content: Content, { kind, offset, length, data }: Entry): void {
  if (kind === 'write') content.write(offset, data);
  else if (kind === 'punch') content.zero(offset, length);
  else if (kind === 'setLength') content.setLength(length);
  else if (kind === 'extend' && length > content.size) content.setLength(length);
}

/** Writes a state out below a directory, which is made. */
export function writeState(root: string, state: CutState): void {
  mkdirSync(root, { recursive: true });
  for (const [path, content] of state) content.writeFile(join(root, path));
}
