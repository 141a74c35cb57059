import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { native } from '../../src/native';
import { KiB } from '../../src/units';
import { xfsDirectory } from '../fixtures';

it('counts what reflinks share of a file, in more pieces than one FIEMAP call tells of', async () => {
  const xfs = await xfsDirectory();
  await using file = await open(join(xfs, 'file'), 'wx+');
  const pieces = 1500;
  for (let piece = 0; piece < pieces; piece++) await file.write(Buffer.alloc(4 * KiB, 'x'), 0, 4 * KiB, piece * 16 * KiB);
  await file.sync();
  expect(await native().sharedBytes(file.fd)).toBe(0);
  await using copy = await open(join(xfs, 'copy'), 'wx+');
  await native().reflink(copy.fd, file.fd);
  await copy.write(Buffer.alloc(4 * KiB, 'y'), 0, 4 * KiB, 0);
  await copy.sync();
  expect(await native().sharedBytes(file.fd)).toBe((pieces - 1) * 4 * KiB);
  expect(await native().sharedBytes(copy.fd)).toBe((pieces - 1) * 4 * KiB);
});
