import { type FileHandle, mkdir, open, readdir, readFile, rename, rm, truncate } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { removeSnapshot } from '../../src/container/snapshot-remove';
import { Store } from '../../src/container/store';
import { makeFileSystem } from '../../src/image/make-filesystem';
import { NewFile } from '../../src/image/new-file';
import { native } from '../../src/native';
import { KiB, MiB } from '../../src/units';
import { cleanUp, type SeededRandom, shell, temporaryDirectory } from '../fixtures';
import { mountServed } from '../served-chain';
import { attachContainer, forgetRun, publishImage, snapshotAttached } from './container';
import { BlockIoctls, type ServedDisk } from './served-disk';

const name = 'files';
const sizeBytes = 64 * MiB;
const maxFiles = 10;
const maxLength = 1200 * KiB;
const maxSnapshots = 4;

type Files = Map<string, Buffer>;

/** Files in a mounted file system on a storage server, and what they hold: now, and in each snapshot. */
export class FileWorld {
  readonly counts: Record<string, number> = {};
  readonly #ioctls = new BlockIoctls();
  readonly #snapshots = new Map<string, Files>();
  #files: Files = new Map();
  #disk: ServedDisk | undefined;
  #directory = '';
  #numbers = 0;

  private constructor(
    private readonly store: Store,
    private readonly random: SeededRandom,
  ) {}

  static async create(random: SeededRandom): Promise<FileWorld> {
    const place = await temporaryDirectory();
    const store = new Store({ root: join(place, 'root'), runRoot: join(place, 'run') });
    store.prepare();
    await using image = await NewFile.create(store.containersDirectory);
    await makeFileSystem(image.fd, sizeBytes);
    await publishImage(store, name, image, sizeBytes);
    const world = new FileWorld(store, random);
    cleanUp(() => world.#detach());
    await world.#attach();
    return world;
  }

  async step(): Promise<void> {
    let number = this.random.below(1000);
    const what = steps.find(([, weight]) => (number -= weight) < 0)?.[0] ?? 'write';
    this.counts[what] = (this.counts[what] ?? 0) + 1;
    const kill = this.random.below(60) === 0 ? this.#killSoon() : undefined;
    await this.#perform(what, `f${this.random.below(maxFiles)}`);
    await kill;
  }

  async #perform(what: string, file: string): Promise<void> {
    const content = this.#files.get(file);
    const path = join(this.#directory, file);
    switch (what) {
      case 'snapshot':
        return this.#snapshot();
      case 'remove snapshot':
        return this.#removeSnapshot();
      case 'reattach':
        await this.#detach();
        await this.#attach();
        return await expectFiles('what is attached again', this.#directory, this.#files);
      case 'read':
        return content && expectSame(file, await readFile(path), content);
      case 'sync':
        return content && (await withFile(path, 'r', (handle) => handle.sync()));
      case 'truncate':
        return content && this.#truncate(file, content);
      case 'punch':
        return content && this.#punch(file, content);
      case 'rename': {
        const to = `f${this.random.below(maxFiles)}`;
        if (!content || to === file) return;
        await rename(path, join(this.#directory, to));
        this.#files.set(to, content);
        this.#files.delete(file);
        return;
      }
      case 'unlink':
        await rm(path, { force: true });
        return void this.#files.delete(file);
      default:
        return this.#write(file, content ?? Buffer.alloc(0));
    }
  }

  async #write(file: string, content: Buffer): Promise<void> {
    const offset = this.random.below(maxLength);
    const bytes = Buffer.alloc(1 + this.random.below(this.random.below(4) ? 9000 : 90_000), `${++this.#numbers} of ${file}, `);
    await withFile(join(this.#directory, file), this.#files.has(file) ? 'r+' : 'w', (handle) =>
      handle.write(bytes, 0, bytes.length, offset),
    );
    const grown = Buffer.alloc(Math.max(content.length, offset + bytes.length));
    content.copy(grown);
    bytes.copy(grown, offset);
    this.#files.set(file, grown);
  }

  async #truncate(file: string, content: Buffer): Promise<void> {
    const length = this.random.below(maxLength);
    await truncate(join(this.#directory, file), length);
    const changed = Buffer.alloc(length);
    content.copy(changed);
    this.#files.set(file, changed);
  }

  async #punch(file: string, content: Buffer): Promise<void> {
    const offset = this.random.below(content.length + 1);
    const length = 1 + this.random.below(100_000);
    await withFile(join(this.#directory, file), 'r+', (handle) => native().punchHole(handle.fd, offset, length));
    this.#files.set(file, Buffer.from(content).fill(0, offset, Math.min(content.length, offset + length)));
  }

  /** As of a running container: while its file system is frozen. */
  async #snapshot(): Promise<void> {
    if (this.#snapshots.size >= maxSnapshots) return this.#removeSnapshot();
    const snapshot = `s${++this.#numbers}`;
    await shell('fsfreeze', '--freeze', this.#directory);
    try {
      await Promise.all([snapshotAttached(this.store, name, snapshot), this.#killSoon()]);
    } finally {
      await shell('fsfreeze', '--unfreeze', this.#directory);
    }
    this.#snapshots.set(snapshot, new Map(this.#files));
  }

  async #removeSnapshot(): Promise<void> {
    if (this.#snapshots.size === 0) return;
    const snapshot = this.random.pick([...this.#snapshots.keys()]);
    this.#snapshots.delete(snapshot);
    await Promise.all([removeSnapshot(this.store, `${name}@${snapshot}`, { warn: () => {}, wait: true }), this.#killSoon()]);
  }

  async #killSoon(): Promise<void> {
    await sleep(this.random.below(10));
    this.#disk?.killWorker();
  }

  async #attach(): Promise<void> {
    this.#disk = await attachContainer(this.store, name, this.#ioctls);
    this.#directory = await mountServed(this.#disk.server.loop);
    await rm(join(this.#directory, 'lost+found'), { recursive: true, force: true });
  }

  async #detach(): Promise<void> {
    if (!this.#disk) return;
    await shell('umount', this.#directory);
    await this.#disk.close();
    this.#disk = undefined;
    await forgetRun(this.store, name);
  }

  /** All snapshots and the present, put together by the reader that shares no code: sound file systems with the files of their moment. */
  async expectAll(): Promise<void> {
    await this.#detach();
    const place = await temporaryDirectory();
    for (const [label, files] of [
      [name, this.#files] as const,
      ...[...this.#snapshots].map(([key, at]) => [`${name}@${key}`, at] as const),
    ]) {
      const disk = join(place, 'disk');
      const directory = join(place, 'mount');
      await mkdir(directory, { recursive: true });
      await shell('/usr/bin/python3', join(import.meta.dirname, '../read-chain.py'), this.store.containerPath(label), disk);
      await shell('e2fsck', '-fn', disk);
      await shell('mount', '-o', 'loop,ro', disk, directory);
      try {
        await expectFiles(label, directory, files);
      } finally {
        await shell('umount', directory);
      }
    }
  }
}

/** Of 1,000, what is not a write. */
const steps: [what: string, weight: number][] = [
  ['read', 150],
  ['sync', 80],
  ['truncate', 100],
  ['punch', 120],
  ['rename', 60],
  ['unlink', 30],
  ['snapshot', 14],
  ['remove snapshot', 8],
  ['reattach', 4],
];

async function withFile(path: string, flags: string, body: (handle: FileHandle) => Promise<unknown>): Promise<void> {
  await using handle = await open(path, flags);
  await body(handle);
}

async function expectFiles(label: string, directory: string, files: Files): Promise<void> {
  const names = (await readdir(directory)).filter((entry) => entry !== 'lost+found').sort();
  const wanted = [...files.keys()].sort();
  if (names.join() !== wanted.join()) throw new Error(`"${label}" has the files ${names.join()}, not ${wanted.join()}`);
  for (const [file, content] of files) expectSame(`${file}" of "${label}`, await readFile(join(directory, file)), content);
}

function expectSame(what: string, found: Buffer, wanted: Buffer): void {
  if (found.equals(wanted)) return;
  const length = Math.min(found.length, wanted.length);
  let at = 0;
  while (at < length && found[at] === wanted[at]) at++;
  throw new Error(`"${what}" differs from byte ${at} on; it has ${found.length} bytes, and should have ${wanted.length}`);
}
