import { createHash } from 'node:crypto';
import { readdirSync } from 'node:fs';
import { readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { execute, shell } from './execute';
import type { TestStore } from './store';
import { temporaryDirectory } from './temporary';

/** The fields of ext4's superblock that a seal changes, in an image: features that keep a file system from being written to, and the checksum. */
const sealedFields = [
  { at: 1024 + 0x64, bytes: 4 },
  { at: 1024 + 0x3fc, bytes: 4 },
];

/** The path of the file that bears a state's name (`web`, `web@mon`), image or delta. */
export function fileOfState(store: TestStore, state: string): string {
  const directory = join(store.root, 'containers');
  const [file, ...others] = readdirSync(directory).filter((name) => name === `${state}.img` || name === `${state}.delta`);
  if (file === undefined || others.length > 0) throw new Error(`The files of "${state}" are: ${[file, ...others].join(' ')}`);
  return join(directory, file);
}

/** The disk of a state as a flat file, put together from its files by `read-chain.py`, no loopbox; removed when `look` is done. */
export async function withDisk<T>(store: TestStore, state: string, look: (disk: string) => Promise<T>): Promise<T> {
  const disk = join(await temporaryDirectory(), 'disk');
  const script = join(import.meta.dirname, 'read-chain.py');
  const read = () => shell('/usr/bin/python3', script, fileOfState(store, state), disk, join(store.root, 'templates'));
  for (let attempt = 1; ; attempt++) {
    try {
      await read();
      break;
    } catch (error) {
      // A merge behind a command takes names away that the reader has just listed.
      if (attempt === 10 || !/FileNotFoundError|empty sequence/.test(String(error))) throw error;
      await sleep(50);
    }
  }
  try {
    return await look(disk);
  } finally {
    await rm(disk);
  }
}

/** A checksum of all that is in a disk, but for what tells a sealed one from one that is not. */
export async function hashOfDisk(disk: string): Promise<string> {
  const content = await readFile(disk);
  for (const { at, bytes } of sealedFields) content.fill(0, at, at + bytes);
  return createHash('sha256').update(content).digest('hex');
}

/** Does what a mount would do first: replays the journal of a disk that nobody has unmounted. Rejects where that leaves any damage. */
export async function recoverDisk(disk: string): Promise<void> {
  const replayed = await execute('e2fsck', ['-y', '-E', 'journal_only', disk]);
  if (replayed.code > 1) throw new Error(`e2fsck can not replay the journal: ${replayed.stdout}${replayed.stderr}`);
  await shell('e2fsck', '-fn', disk);
}

/** The content of a file in a disk; empty where it is not there. */
export async function fileInDisk(disk: string, path: string): Promise<string> {
  return (await execute('debugfs', ['-R', `cat ${path}`, disk])).stdout;
}
