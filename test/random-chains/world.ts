import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { cloneContainer } from '../../src/container/clone';
import { openChain } from '../../src/container/open-chain';
import { removeContainer } from '../../src/container/remove';
import { renameContainer } from '../../src/container/rename';
import { restoreSnapshot } from '../../src/container/restore';
import { settleContainer } from '../../src/container/settle';
import { createSnapshot } from '../../src/container/snapshot-create';
import { removeSnapshot } from '../../src/container/snapshot-remove';
import { Store } from '../../src/container/store';
import { copyView } from '../../src/image/copy-view';
import { writeAt } from '../../src/image/file-io';
import { NewFile } from '../../src/image/new-file';
import { KiB, MiB } from '../../src/units';
import { cleanUp, type SeededRandom, shell, temporaryDirectory } from '../fixtures';
import { growContainer } from '../grow-container';
import { superblockBytes } from '../unit/image/golden';
import { attachContainer, forgetRun, publishImage, snapshotAttached } from './container';
import { block, type Content, expectContent, fill, holds } from './content';
import { BlockIoctls, bufferFor, queueDepth, type ServedDisk } from './served-disk';

const firstBytes = 8 * MiB;
const maxBytes = 24 * MiB;
const maxContainers = 3;
const maxSnapshots = 5;

interface Container {
  name: string;
  content: Content;
  snapshots: Map<string, Content>;
  /** Where its disk is attached. */
  disk?: ServedDisk | undefined;
  /** Of blocks that were written since the last flush, what they may be after a crash instead. */
  unsynced: Map<number, Set<number>>;
}

/** Containers of a store of their own whose disks are written to, and what each of their states must show. */
export class World {
  readonly #containers: Container[] = [];
  readonly #ioctls = new BlockIoctls();
  readonly counts: Record<string, number> = {};
  #numbers = 0;
  #writes = 0;

  private constructor(
    readonly store: Store,
    private readonly random: SeededRandom,
  ) {}

  static async create(random: SeededRandom): Promise<World> {
    const place = await temporaryDirectory();
    const store = new Store({ root: join(place, 'root'), runRoot: join(place, 'run') });
    store.prepare();
    const world = new World(store, random);
    cleanUp(() => world.#close());
    await world.#newContainer();
    return world;
  }

  /** One random step. */
  async step(): Promise<void> {
    const container = this.random.pick(this.#containers);
    const chosen = this.#choose();
    try {
      await this.#perform(chosen, container);
    } catch (error) {
      throw new Error(`Step "${chosen}" of "${container.name}": ${(error as Error).message}`, { cause: error });
    }
  }

  #choose(): string {
    let number = this.random.below(10_000);
    return steps.find(([, weight]) => (number -= weight) < 0)?.[0] ?? 'write';
  }

  async #perform(what: string, container: Container): Promise<void> {
    this.counts[what] = (this.counts[what] ?? 0) + 1;
    switch (what) {
      case 'read':
        return this.#read(container);
      case 'discard':
      case 'zero':
        return this.#clear(container, what);
      case 'flush':
        return this.#flush(container);
      case 'burst':
        return this.#burst(container);
      case 'kill':
        return (await this.#attached(container)).killWorker();
      case 'crash':
        return this.#crash(container);
      case 'attach':
        return this.#reattach(container);
      case 'snapshot':
        return this.#snapshot(container);
      case 'remove':
        return this.#removeSnapshot(container);
      case 'restore':
        return this.#restore(container);
      case 'clone':
        return this.#clone(container);
      case 'rename':
        return this.#rename(container);
      case 'grow':
        return this.#grow(container);
      case 'settle':
        return this.#settle(container);
      case 'rm':
        return this.#removeContainer(container);
      default:
        return this.#write(container);
    }
  }

  // What a guest does

  async #write(container: Container): Promise<void> {
    const disk = await this.#attached(container);
    await this.#writeOne(container, disk, 0, this.#range(container));
  }

  async #writeOne(container: Container, disk: ServedDisk, request: number, [first, count]: Range): Promise<void> {
    const value = ++this.#writes;
    const bytes = bufferFor(request, count);
    fill(bytes, first, value);
    await disk.write(first, bytes);
    this.#wrote(container, first, count, value);
  }

  #wrote({ content, unsynced }: Container, first: number, count: number, value: number): void {
    for (let index = first; index < first + count; index++) {
      const before = unsynced.get(index) ?? new Set();
      unsynced.set(index, before.add(content[index] as number));
    }
    content.fill(value, first, first + count);
  }

  async #read(container: Container): Promise<void> {
    const disk = await this.#attached(container);
    const [first, count] = this.#range(container);
    expectContent(container.name, await disk.read(first, bufferFor(0, count)), first, container.content);
  }

  async #clear(container: Container, how: 'discard' | 'zero'): Promise<void> {
    const disk = await this.#attached(container);
    const [first, count] = this.#range(container);
    await disk.clear(how, first, count);
    this.#wrote(container, first, count, 0);
  }

  async #flush(container: Container): Promise<void> {
    await (await this.#attached(container)).flush();
    container.unsynced.clear();
  }

  /** Requests at once, none of which overlaps another, and perhaps a worker that dies over them. */
  async #burst(container: Container): Promise<void> {
    const disk = await this.#attached(container);
    const part = Math.floor(container.content.length / queueDepth);
    const requests = Array.from({ length: queueDepth }, (_, request) => {
      const count = 1 + this.random.below(32);
      const first = Math.max(1, request * part + this.random.below(part - count));
      return this.#writeOne(container, disk, request, [first, count]);
    });
    if (this.random.below(3) === 0) requests.push(this.#killSoon(disk));
    await Promise.all(requests);
  }

  async #killSoon(disk: ServedDisk): Promise<void> {
    await sleep(this.random.below(8));
    disk.killWorker();
  }

  /** Mostly small, and mostly where others have been. Never the superblock. */
  #range({ content }: Container): Range {
    const { random } = this;
    const count = 1 + random.below(random.below(20) ? 12 : 256);
    const span = random.below(2) ? content.length : Math.min(content.length, 700);
    return [1 + random.below(span - count - 1), count];
  }

  // How a disk comes and goes

  async #attached(container: Container): Promise<ServedDisk> {
    if (container.disk) return container.disk;
    container.disk = await attachContainer(this.store, container.name, this.#ioctls);
    container.unsynced.clear();
    return container.disk;
  }

  async #detach(container: Container): Promise<void> {
    if (!container.disk) return;
    await container.disk.close();
    container.disk = undefined;
    container.unsynced.clear();
    await forgetRun(this.store, container.name);
  }

  async #reattach(container: Container): Promise<void> {
    await this.#detach(container);
    const disk = await this.#attached(container);
    for (const [first, bytes] of await this.#pieces(container, disk)) expectContent(container.name, bytes, first, container.content);
  }

  /** Keeper and worker die: what was not flushed may be lost, each block by itself. */
  async #crash(container: Container): Promise<void> {
    await (await this.#attached(container)).close({ kill: true });
    container.disk = undefined;
    await forgetRun(this.store, container.name);
    const { unsynced, content } = container;
    const possible = new Map(unsynced);
    const disk = await this.#attached(container);
    for (const [first, bytes] of await this.#pieces(container, disk)) {
      for (const [index, values] of possible) {
        if (index < first || index >= first + bytes.length / block) continue;
        const one = bytes.subarray((index - first) * block, (index - first + 1) * block);
        const kept = [content[index] as number, ...values].find((value) => holds(one, index, value));
        if (kept !== undefined) content[index] = kept;
      }
      expectContent(container.name, bytes, first, content);
    }
  }

  async #pieces({ content }: Container, disk: ServedDisk): Promise<[number, Buffer][]> {
    const pieces: [number, Buffer][] = [];
    for (let first = 0; first < content.length; first += 256) {
      const count = Math.min(256, content.length - first);
      pieces.push([first, Buffer.from(await disk.read(first, bufferFor(0, count)))]);
    }
    return pieces;
  }

  // Verbs

  /** A verb for stopped containers. */
  async #stopped<T>(container: Container, verb: () => Promise<T>): Promise<T> {
    await this.#detach(container);
    return await verb();
  }

  /** One for those that run, or not; the worker may die over it. */
  async #either<T>(container: Container, verb: () => Promise<T>): Promise<T> {
    const { disk } = container;
    if (!disk) return await verb();
    const [result] = await Promise.all([verb(), this.random.below(2) ? this.#killSoon(disk) : undefined]);
    return result;
  }

  async #snapshot(container: Container): Promise<void> {
    const { name, disk, snapshots } = container;
    if (snapshots.size >= maxSnapshots) return this.#removeSnapshot(container);
    if (this.random.below(3) === 0) await this.#detach(container);
    const snapshot = `s${++this.#numbers}`;
    await this.#either(container, async () => {
      if (container.disk && disk) await snapshotAttached(this.store, name, snapshot);
      else await createSnapshot(this.store, `${name}@${snapshot}`, { warn });
    });
    container.unsynced.clear();
    snapshots.set(snapshot, container.content.slice());
  }

  async #removeSnapshot(container: Container): Promise<void> {
    const snapshot = this.#pickSnapshot(container);
    if (snapshot === undefined) return;
    if (this.random.below(3) === 0) await this.#detach(container);
    container.snapshots.delete(snapshot);
    // A merge waits for files that other containers have open, which takes time.
    const wait = this.random.below(2) > 0;
    await this.#either(container, () => removeSnapshot(this.store, `${container.name}@${snapshot}`, { warn: () => {}, wait }));
    if (this.random.below(4) === 0) await this.#expectFiles(container);
  }

  #pickSnapshot({ snapshots }: Container): string | undefined {
    return snapshots.size === 0 ? undefined : this.random.pick([...snapshots.keys()]);
  }

  async #restore(container: Container): Promise<void> {
    const snapshot = this.#pickSnapshot(container);
    if (snapshot === undefined) return;
    const options = { warn, restart: false, diskOnly: this.random.below(2) === 0 };
    const { kept } = await this.#stopped(container, () => restoreSnapshot(this.store, `${container.name}@${snapshot}`, options));
    container.snapshots.set(kept.slice(container.name.length + 1), container.content);
    container.content = (container.snapshots.get(snapshot) as Content).slice();
  }

  async #clone(container: Container): Promise<void> {
    if (this.#containers.length >= maxContainers) return;
    const snapshot = this.random.below(3) ? this.#pickSnapshot(container) : undefined;
    if (snapshot === undefined) await this.#detach(container);
    const from = snapshot === undefined ? container.name : `${container.name}@${snapshot}`;
    const content = ((snapshot !== undefined && container.snapshots.get(snapshot)) || container.content).slice();
    const name = `c${++this.#numbers}`;
    await cloneContainer(this.store, from, name, { warn, linked: this.random.below(3) > 0, keepIdentity: true });
    this.#containers.push({ name, content, snapshots: new Map(), unsynced: new Map() });
  }

  async #rename(container: Container): Promise<void> {
    const name = `c${++this.#numbers}`;
    await this.#stopped(container, () => renameContainer(this.store, container.name, name));
    container.name = name;
  }

  async #grow(container: Container): Promise<void> {
    const sizeBytes = container.content.length * block + (1 + this.random.below(3)) * MiB;
    if (sizeBytes > maxBytes) return;
    await this.#either(container, () => growContainer(this.store, container.name, sizeBytes, container.disk?.server.loop.fd));
    const grown = new Uint32Array(sizeBytes / block);
    grown.set(container.content);
    container.content = grown;
  }

  async #settle(container: Container): Promise<void> {
    await this.#stopped(container, () => settleContainer(this.store, container.name));
    if (this.random.below(3) === 0) await this.#expectFiles(container);
  }

  /** Others may stand on its files: then it stays. */
  async #removeContainer(container: Container): Promise<void> {
    if (this.#containers.length === 1) return;
    await this.#detach(container);
    try {
      await removeContainer(this.store, container.name, { snapshots: true });
    } catch (error) {
      if ((error as { code?: string }).code === 'ERR_LOOPBOX_IN_USE') return;
      throw error;
    }
    this.#containers.splice(this.#containers.indexOf(container), 1);
  }

  async #newContainer(): Promise<void> {
    const name = `c${++this.#numbers}`;
    await using file = await NewFile.create(this.store.containersDirectory);
    // Whatever else of it there may be: nobody mounts it.
    await writeAt(file.fd, KiB, superblockBytes({ sizeBytes: firstBytes }));
    await publishImage(this.store, name, file, firstBytes);
    this.#containers.push({ name, content: new Uint32Array(firstBytes / block), snapshots: new Map(), unsynced: new Map() });
  }

  // What all states show

  /** All states of all containers, at rest; by loopbox and by the reader that shares no code with it. */
  async expectAll(): Promise<void> {
    for (const container of this.#containers) await this.#detach(container);
    for (const container of this.#containers) {
      await this.#expectFiles(container);
      for (const [label, content] of statesOf(container)) {
        const out = join(await temporaryDirectory(), 'disk');
        const { containersDirectory, templatesDirectory } = this.store;
        const path = this.#pathOf(label);
        await shell('/usr/bin/python3', join(import.meta.dirname, '../read-chain.py'), path, out, containersDirectory, templatesDirectory);
        const bytes = await readFile(out);
        if (bytes.length !== content.length * block) throw new Error(`"${label}" has ${bytes.length} bytes`);
        expectContent(label, bytes, 0, content);
      }
    }
  }

  /** The snapshots, and the present where it is at rest. */
  async #expectFiles(container: Container): Promise<void> {
    for (const [label, content] of statesOf(container)) {
      if (label === container.name && container.disk) continue;
      await using chain = await openChain(this.store, { path: this.#pathOf(label), label });
      await using out = await NewFile.create(this.store.root);
      await copyView(chain.viewLayers(), out.fd);
      expectContent(label, await readFile(`/proc/self/fd/${out.fd}`), 0, content);
      if (chain.sizeBytes !== content.length * block) throw new Error(`"${label}" has ${chain.sizeBytes} bytes`);
    }
  }

  #pathOf(label: string): string {
    return this.store.containerPath(label);
  }

  async #close(): Promise<void> {
    for (const container of this.#containers) await this.#detach(container);
  }
}

type Range = [first: number, count: number];

/** Of 10,000, what is not a write. */
const steps: [what: string, weight: number][] = [
  ['read', 1500],
  ['discard', 700],
  ['zero', 700],
  ['flush', 500],
  ['burst', 100],
  ['kill', 15],
  ['crash', 10],
  ['attach', 15],
  ['snapshot', 32],
  ['remove', 16],
  ['restore', 18],
  ['clone', 12],
  ['rename', 8],
  ['grow', 20],
  ['settle', 6],
  ['rm', 8],
];

function* statesOf({ name, content, snapshots }: Container): Generator<[label: string, content: Content]> {
  yield [name, content];
  for (const [snapshot, frozen] of snapshots) yield [`${name}@${snapshot}`, frozen];
}

function warn(message: string): never {
  throw new Error(message);
}
