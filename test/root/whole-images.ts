import { statSync } from 'node:fs';
import { type FileHandle, mkdir, open, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect } from 'vitest';
import { placeManifest } from '../../src/image/image-file';
import { makeFileSystem } from '../../src/image/make-filesystem';
import type { Manifest } from '../../src/image/manifest';
import { MiB } from '../../src/units';
import { cleanUp, execute, shell, temporaryDirectory } from '../fixtures';

/** The manifest of an image. */
export function manifestOf(sizeBytes: number): Manifest {
  const id = (digit: string) => `${digit.repeat(8)}-2222-4333-8444-555555555555`;
  return {
    kind: 'image',
    container: id('1'),
    state: id('2'),
    name: 'web',
    sizeBytes,
    created: '2025-01-02T03:04:05Z',
    config: { command: ['/bin/true'], environment: { A: 'b' }, limits: { pids: 40 }, labels: {} },
  };
}

/** A path where no file is as yet. */
export async function newPath(): Promise<string> {
  return join(await temporaryDirectory(), 'disk.img');
}

/** A new file, which is closed with the test. */
export async function emptyFile(): Promise<{ path: string; file: FileHandle }> {
  const path = await newPath();
  const file = await open(path, 'wx+');
  cleanUp(() => file.close());
  return { path, file };
}

/** An empty file system by the recipe, without manifest. */
export async function recipeFile(sizeBytes = 128 * MiB): Promise<{ path: string; file: FileHandle }> {
  const made = await emptyFile();
  await makeFileSystem(made.file.fd, sizeBytes);
  return made;
}

/** The same with its manifest. */
export async function recipeImage(sizeBytes = 128 * MiB): Promise<string> {
  const { path, file } = await recipeFile(sizeBytes);
  await placeManifest(file.fd, sizeBytes, manifestOf(sizeBytes));
  return path;
}

/** What somebody else's mke2fs makes. */
export async function foreignFile(sizeBytes: number, ...args: string[]): Promise<string> {
  const path = await newPath();
  await writeFile(path, '');
  await truncate(path, sizeBytes);
  await shell('mke2fs', '-q', '-F', '-t', 'ext4', ...args, path);
  return path;
}

/** Mounts a file as stock tools do, changes it, unmounts it. */
export async function mounted(path: string, options: string, body: (target: string) => Promise<unknown>): Promise<void> {
  const target = join(await temporaryDirectory(), 'mount');
  await mkdir(target);
  await shell('mount', '-o', options, path, target);
  try {
    await body(target);
  } finally {
    await shell('umount', target);
  }
}

/** A file system as a running container's file has it: copied while mounted, its last files only in the journal. */
export async function unrecovered(): Promise<string> {
  const path = await recipeImage();
  const copy = await newPath();
  await mounted(path, 'loop', async (target) => {
    await writeFile(join(target, 'journaled'), 'only in the journal');
    await shell('sync', '-f', target);
    await shell('cp', '--sparse=always', path, copy);
  });
  return copy;
}

/** The names of its features, as stock tools show them. */
export async function features(path: string): Promise<string[]> {
  const line = (await shell('dumpe2fs', '-h', path)).split('\n').find((line) => line.startsWith('Filesystem features:'));
  return line?.split(/\s+/).slice(2) ?? [];
}

export async function expectClean(path: string): Promise<void> {
  const { code, stdout } = await execute('e2fsck', ['-fn', path]);
  expect([code, stdout]).toEqual([0, expect.any(String)]);
}

export async function failureOf(promise: Promise<unknown>): Promise<unknown> {
  return promise.then(
    () => 'no error',
    (error: unknown) => error,
  );
}

export function allocatedBytes(path: string): number {
  return statSync(path).blocks * 512;
}
