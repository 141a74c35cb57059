import { closeSync, copyFileSync, ftruncateSync, openSync, statSync, writeSync } from 'node:fs';
import { mkdir, rm, rmdir } from 'node:fs/promises';
import { join } from 'node:path';
import { KiB, MiB } from '../src/units';
import { shell } from './execute';
import { bytesOf, contentOf } from './image-view';
import type { TestStore } from './store';
import { temporaryDirectory } from './temporary';

const block = 4 * KiB;

/** A file's manifest, read without loopbox: the newer of two slots of JSON with a footer. */
export function manifestOf(path: string): Record<string, unknown> & { sizeBytes: number } {
  const start = path.endsWith('.delta') ? 0 : statSync(path).size - 64 * KiB;
  const slots = [0, 32 * KiB].flatMap((at) => {
    const slot = bytesOf(path, start + at, 32 * KiB);
    const footer = slot.subarray(-32);
    if (footer.toString('latin1', 0, 8) !== 'LOOPBOXM') return [];
    return [{ generation: footer.readBigUInt64LE(16), json: slot.toString('utf8', 0, footer.readUInt32LE(12)) }];
  });
  const newest = slots.sort((a, b) => Number(b.generation - a.generation))[0];
  return JSON.parse(newest?.json ?? '{}') as Record<string, unknown> & { sizeBytes: number };
}

/** The disk of a chain as a flat file, put together from its files (the top first) without loopbox. */
export async function assembled(paths: string[]): Promise<string> {
  const [root = '', ...deltas] = [...paths].reverse();
  const view = join(await temporaryDirectory(), 'view.img');
  copyFileSync(root, view);
  const out = openSync(view, 'r+');
  try {
    ftruncateSync(out, manifestOf(paths[0] ?? '').sizeBytes);
    for (const path of deltas) {
      for (const [index, data] of ownBlocks(path)) writeSync(out, data, 0, block, index * block);
    }
  } finally {
    closeSync(out);
  }
  return view;
}

/** What a file system in a flat file holds, by a stock mount. */
export async function contentOfView(view: string): Promise<string> {
  return inView(view, 'ro,noload', contentOf);
}

/** All that a state holds: its files, as `loopbox files` names them, put together. */
export async function contentOfState(store: TestStore, name: string): Promise<string> {
  const view = await assembled((await store.done('files', name)).split('\n'));
  try {
    await shell('e2fsck', '-fn', view);
    return await contentOfView(view);
  } finally {
    await rm(view);
  }
}

/** Changes the disk of a stopped container as a run of it would: `script` in the root directory; what differs goes into its top. */
export function changeDisk(store: TestStore, name: string, script: string): Promise<void> {
  const inRoot = async (directory: string) => void (await shell('sh', '-c', `cd "$0" && ${script}`, directory));
  return changeView(store, name, (view) => inView(view, 'rw', inRoot));
}

/** Changes the disk of a stopped container, given as a flat file; what differs goes into its top. */
export async function changeView(store: TestStore, name: string, change: (view: string) => Promise<void>): Promise<void> {
  const paths = (await store.done('files', name)).split('\n');
  const top = paths[0] ?? '';
  if (top.endsWith('.img')) return change(top);
  const before = await assembled(paths);
  const after = `${before}.after`;
  copyFileSync(before, after);
  await change(after);
  const { mapOffset, dataOffset } = manifestOf(top) as unknown as { mapOffset: number; dataOffset: number };
  const fd = openSync(top, 'r+');
  try {
    for (let start = 0; start < statSync(after).size; start += MiB) {
      const [old, now] = [bytesOf(before, start, MiB), bytesOf(after, start, MiB)];
      if (old.equals(now)) continue;
      for (let at = 0; at < MiB; at += block) {
        if (old.subarray(at, at + block).equals(now.subarray(at, at + block))) continue;
        const index = (start + at) / block;
        writeSync(fd, now, at, block, dataOffset + index * block);
        const byte = bytesOf(top, mapOffset + Math.floor(index / 8), 1);
        writeSync(fd, Buffer.from([(byte[0] ?? 0) | (1 << (index % 8))]), 0, 1, mapOffset + Math.floor(index / 8));
      }
    }
  } finally {
    closeSync(fd);
    await rm(before);
    await rm(after);
  }
}

function* ownBlocks(path: string): Generator<[number, Buffer]> {
  const { sizeBytes, mapOffset, dataOffset } = manifestOf(path) as unknown as { sizeBytes: number; mapOffset: number; dataOffset: number };
  const map = bytesOf(path, mapOffset, Math.ceil(sizeBytes / block / 8));
  for (let index = 0; index < sizeBytes / block; index++) {
    if (((map[index >> 3] ?? 0) >> (index & 7)) & 1) yield [index, bytesOf(path, dataOffset + index * block, block)];
  }
}

async function inView<T>(view: string, options: string, look: (directory: string) => Promise<T>): Promise<T> {
  const directory = join(await temporaryDirectory(), 'mount');
  await mkdir(directory);
  await shell('mount', '-o', `loop,${options}`, view, directory);
  try {
    return await look(directory);
  } finally {
    await shell('umount', directory);
    await rmdir(directory);
  }
}
