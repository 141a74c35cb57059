import { constants } from 'node:fs';
import { open } from 'node:fs/promises';
import { expect } from 'vitest';
import type { StackServer } from '../src/loop/stack-server';
import { KiB } from '../src/units';
import { shell } from './fixtures';
import { ServedChain } from './served-chain';

/** A chain whose top is called `disk.delta`. */
export async function namedChain(): Promise<ServedChain> {
  const chain = await ServedChain.create({ deltas: 0 });
  chain.paths.push(await chain.makeDelta('disk.delta'));
  return chain;
}

/** What fills a block of the served disk, as the disk has it now. */
export async function patternAt(server: StackServer, block: number): Promise<number> {
  await using file = await open(server.loop.path, constants.O_RDONLY);
  await shell('blockdev', '--flushbufs', server.loop.path);
  const { buffer } = await file.read(Buffer.alloc(4 * KiB), 0, 4 * KiB, block * 4 * KiB);
  expect(buffer.equals(Buffer.alloc(4 * KiB, buffer[0]))).toBe(true);
  return buffer[0] ?? -1;
}

/** Fills a block of the served disk, durably. */
export async function writePattern(server: StackServer, block: number, value: number): Promise<void> {
  await using file = await open(server.loop.path, constants.O_RDWR | constants.O_DSYNC);
  await file.write(Buffer.alloc(4 * KiB, value), 0, 4 * KiB, block * 4 * KiB);
}
