import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { type FileHandle, link, open, readFile, rename, rm, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { flock } from 'fs-ext';
import { expect, it, vi } from 'vitest';
import { LoopboxError } from '../../src/errors';
import { type AttachOptions, attachLoop, type LoopDevice } from '../../src/loop/attach-loop';
import { attachedTo } from '../../src/loop/find-attached';
import { loopLimits, readLoop } from '../../src/loop/list-loops';
import { native } from '../../src/native';
import { MiB } from '../../src/units';
import { cleanUp, lockIsFree, temporaryDirectory } from '../fixtures';
import { attachedLoops } from '../loop-devices';

async function backingFile(sizeBytes = 8 * MiB): Promise<{ file: FileHandle; path: string }> {
  const path = join(await temporaryDirectory(), 'image');
  await writeFile(path, '');
  await truncate(path, sizeBytes);
  const file = await open(path, 'r+');
  cleanUp(() => file.close());
  return { file, path };
}

async function attach(file: FileHandle, options: Partial<AttachOptions> = {}): Promise<LoopDevice> {
  const settings = { name: 'test', sizeLimitBytes: 4 * MiB, blockSize: 4096, readOnly: false, directIo: true, warn: () => {} };
  const loop = await attachLoop({ fd: file.fd, ...settings, ...options });
  cleanUp(() => loop.close());
  return loop;
}

async function sizeOf(index: number): Promise<number> {
  return Number(await readFile(`/sys/block/loop${index}/size`, 'utf8')) * 512;
}

it('attaches a file with all its settings, and detaches it with its close', async () => {
  const { file, path } = await backingFile();
  const loop = await attach(file);
  const { index, diskSequence, directIo } = loop;
  expect(attachedLoops()).toContainEqual({ index, diskSequence, backingFile: path });
  expect(readLoop(index)).toEqual({ diskSequence, directIo });
  expect(await readFile(`/sys/block/loop${index}/loop/autoclear`, 'utf8')).toBe('1\n');
  expect(loopLimits().attached).toBeGreaterThan(0);
  expect(await sizeOf(index)).toBe(4 * MiB);
  await loop.close();
  await loop.close();
  await expect.poll(() => readLoop(index)).toBeUndefined();
});

it('attaches read-only', async () => {
  const { file } = await backingFile();
  const loop = await attach(file, { readOnly: true });
  await expect(writeFile(loop.path, 'x', { flag: 'r+' })).rejects.toThrow();
});

it('warns where direct I/O is not possible', async () => {
  const { file } = await backingFile();
  const warn = vi.fn();
  const loop = await attach(file, { warn });
  expect(warn).toHaveBeenCalledTimes(loop.directIo ? 0 : 1);
});

it('tells two attachments of one number apart by their disk sequence', async () => {
  const { file } = await backingFile();
  const first = await attach(file);
  await first.close();
  const second = await attach(file);
  expect(second.diskSequence).toBeGreaterThan(first.diskSequence);
});

it('keeps a flock on the given descriptor until the device is cleared', async () => {
  const { file, path } = await backingFile();
  const locked = await open(path, 'r+');
  await new Promise<void>((resolve, reject) => flock(locked.fd, 'exnb', (error) => (error ? reject(error) : resolve())));
  const loop = await attach(locked);
  await locked.close();
  expect(await lockIsFree(path)).toBe(false);
  await loop.close();
  await expect.poll(() => lockIsFree(path)).toBe(true);
  await file.stat();
});

it('resizes an attached device', async () => {
  const { file } = await backingFile();
  const loop = await attach(file);
  await native().loopResize(loop.fd, 6 * MiB);
  expect(await sizeOf(loop.index)).toBe(6 * MiB);
  await loop.close();
  await expect.poll(() => readLoop(loop.index)).toBeUndefined();
});

it('finds the devices of a file by what it is: under another name, through a hard link, without a name', async () => {
  const { file, path } = await backingFile();
  const other = await attach((await backingFile()).file);
  const { dev: device, ino: inode } = await file.stat({ bigint: true });
  expect(await attachedTo({ device, inode })).toEqual([]);
  await link(path, `${path}-link`);
  await using linked = await open(`${path}-link`, 'r');
  const first = await attach(file);
  const second = await attach(linked, { readOnly: true });
  const both = [first.path, second.path].sort();
  expect((await attachedTo({ device, inode })).sort()).toEqual(both);
  await rename(path, `${path}-renamed`);
  await rm(`${path}-renamed`);
  await rm(`${path}-link`);
  expect((await attachedTo({ device, inode })).sort()).toEqual(both);
  await first.close();
  await expect.poll(() => attachedTo({ device, inode })).toEqual([second.path]);
  await second.close();
  await expect.poll(() => attachedTo({ device, inode })).toEqual([]);
  expect(readLoop(other.index)).toBeDefined();
});

it('looks through the devices while others come and go, and keeps none of them', async () => {
  const { file } = await backingFile();
  const { dev: device, ino: inode } = await file.stat({ bigint: true });
  const loop = await attach(file);
  const done = new AbortController();
  const another = await backingFile();
  const comeAndGo = async () => {
    while (!done.signal.aborted) await (await attach(another.file)).close();
  };
  const busy = Promise.all([comeAndGo(), comeAndGo()]);
  for (let round = 0; round < 200; round++) expect(await attachedTo({ device, inode })).toEqual([loop.path]);
  done.abort();
  await busy;
  await expect.poll(() => attachedLoops().filter(({ backingFile }) => backingFile === another.path)).toEqual([]);
});

it('refuses a descriptor that can not back a device', async () => {
  const directory = await open(await temporaryDirectory(), 'r');
  cleanUp(() => directory.close());
  await expect(attach(directory)).rejects.toThrow(LoopboxError);
});

it('leaves nothing behind a process killed with its device', async () => {
  const { path } = await backingFile();
  const child = holder([path]);
  const [attached] = await attachedBy(child);
  expect(attachedLoops()).toContainEqual(expect.objectContaining({ index: attached?.index, backingFile: path }));
  child.kill('SIGKILL');
  await expect.poll(() => attachedLoops().filter((loop) => loop.backingFile === path)).toEqual([]);
});

it('gives 200 concurrent attaches from 4 processes a device each', async () => {
  const directory = await temporaryDirectory();
  const paths = Array.from({ length: 200 }, (_, i) => join(directory, `image-${i}`));
  for (const path of paths) await writeFile(path, Buffer.alloc(65536));
  const children = [0, 1, 2, 3].map((part) => holder(paths.slice(part * 50, part * 50 + 50)));
  const attached = (await Promise.all(children.map(attachedBy))).flat();

  expect(new Set(attached.map(({ index }) => index)).size).toBe(200);
  const shown = attachedLoops().filter((loop) => loop.backingFile.startsWith(directory));
  expect(shown).toHaveLength(200);
  for (const { index, name } of attached) expect(shown).toContainEqual(expect.objectContaining({ index, backingFile: name }));

  for (const child of children) child.stdin?.end();
  await Promise.all(children.map(async (child) => child.exitCode ?? (await once(child, 'exit'))));
  await expect.poll(() => attachedLoops().filter((loop) => loop.backingFile.startsWith(directory))).toEqual([]);
});

/** A process that holds a device on each file. */
function holder(paths: string[]): ChildProcess {
  const child = spawn(process.execPath, [join(__dirname, 'attach-many.cjs'), ...paths], { stdio: ['pipe', 'pipe', 'inherit'] });
  cleanUp(() => void child.kill('SIGKILL'));
  return child;
}

async function attachedBy(child: ChildProcess): Promise<{ index: number; name: string }[]> {
  let text = '';
  for await (const chunk of child.stdout ?? []) {
    text += chunk;
    if (text.endsWith('\n')) break;
  }
  return JSON.parse(text);
}
