import { mkdir, open, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { decodeSlots, slotsLength } from '../src/image/manifest-slots';
import { busyboxTar } from './busybox-tar';
import { shell } from './execute';
import { TestStore } from './store';
import { temporaryDirectory } from './temporary';

/** A store with the template `t` and the container `base` of it, and images to do harm to. */
export class ImageWorkshop {
  #count = 0;

  private constructor(
    readonly store: TestStore,
    readonly directory: string,
    /** A file that `export` wrote of `base`: 128 MiB, busybox; it says that it runs. */
    readonly exported: string,
    /** The same files, as a directory. */
    readonly rootfs: string,
  ) {}

  static async open(): Promise<ImageWorkshop> {
    const store = await TestStore.create();
    const directory = await temporaryDirectory();
    const exported = join(directory, 'exported.img');
    const rootfs = join(directory, 'rootfs');
    await store.importBusybox('t', '--size', '128M');
    await store.done('create', 'base', '--full', '--template', 't', '--', 'sh', '-c', 'echo it runs');
    await store.done('export', 'base', exported);
    await mkdir(rootfs);
    await shell('tar', '-C', rootfs, '-xpf', await busyboxTar());
    return new ImageWorkshop(store, directory, exported, rootfs);
  }

  /** Where no file is as yet. */
  nextPath(): string {
    return join(this.directory, `${++this.#count}.img`);
  }

  async copyOf(path: string): Promise<string> {
    const copy = this.nextPath();
    await shell('cp', '--sparse=always', path, copy);
    return copy;
  }

  /** A file system of somebody else, with a root file system in it. */
  async foreignImage(sizeKiB: number, ...args: string[]): Promise<string> {
    const path = this.nextPath();
    await shell('mke2fs', '-q', '-F', '-t', 'ext4', ...args, '-d', this.rootfs, path, `${sizeKiB}k`);
    return path;
  }

  /** A container's file with other bytes where its manifest is. */
  async withSlots(slots: Buffer): Promise<string> {
    const path = await this.copyOf(this.exported);
    await overwrite(path, (await stat(path)).size - slotsLength, slots);
    return path;
  }
}

export async function overwrite(path: string, position: number, bytes: Uint8Array): Promise<void> {
  await using file = await open(path, 'r+');
  await file.write(bytes, 0, bytes.length, position);
}

/** The manifest as it lies in a container's file. */
export async function manifestOf(path: string): Promise<Record<string, unknown> & { config: Record<string, unknown> }> {
  const slots = Buffer.from(await shell('sh', '-c', `tail -c ${slotsLength} ${path} | base64`), 'base64');
  return JSON.parse(decodeSlots(slots)?.json ?? '') as Record<string, unknown> & { config: Record<string, unknown> };
}
