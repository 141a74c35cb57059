import { createHash } from 'node:crypto';
import { readdirSync, statSync } from 'node:fs';
import { readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { manifestOf } from './chain-view';
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

/** What merges change of containers: which files there are, and what each says of itself. */
function standOf(directory: string): string {
  const look = (name: string) => [name, statSync(join(directory, name)).ino, manifestOf(join(directory, name))];
  return JSON.stringify(readdirSync(directory).sort().map(look));
}

const attempts = 10;
/** Of names that went away when they had been listed, or of a file that is one of the other kind meanwhile. */
const passing = /ENOENT|FileNotFoundError|KeyError|empty sequence|^Error: The files of/;

/**
 * The disk of a state as a flat file, put together from its files by `read-chain.py`, no loopbox; removed when `look` is done. Where a merge behind
 * a command goes on meanwhile, it is read again: what the files said before is no more, and the reader takes no part in leases and locks.
 */
export async function withDisk<T>(store: TestStore, state: string, look: (disk: string) => Promise<T>): Promise<T> {
  const directory = join(store.root, 'containers');
  const disk = join(await temporaryDirectory(), 'disk');
  const script = join(import.meta.dirname, 'read-chain.py');
  const read = async () => {
    const before = standOf(directory);
    await shell('/usr/bin/python3', script, fileOfState(store, state), disk, join(store.root, 'templates'));
    return standOf(directory) === before;
  };
  for (let attempt = 1; ; attempt++) {
    try {
      if ((await read()) || attempt === attempts) break;
    } catch (error) {
      if (attempt === attempts || !passing.test(String(error))) throw error;
    }
    await sleep(50);
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
