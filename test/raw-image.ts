import { existsSync } from 'node:fs';
import { mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect } from 'vitest';
import { busyboxTar } from './busybox-tar';
import { shell } from './execute';
import { withStockMount } from './image-view';

/** An ext4 image as any tool makes it, in `directory`: no manifest, its own inode and block sizes, with an init. */
export async function rawImage(directory: string): Promise<string> {
  const image = join(directory, 'raw.img');
  const root = join(directory, 'rawroot');
  await mkdir(root);
  await shell('tar', '-C', root, '-xf', await busyboxTar());
  await writeFile(join(root, 'sbin/init'), '#!/bin/sh\nwhile :; do sleep 1000; done\n', { mode: 0o755 });
  await shell('truncate', '-s', '64M', image);
  await shell('mkfs.ext4', '-q', '-F', '-b', '1024', '-d', root, image);
  expect(await withStockMount(image, async (directory) => existsSync(join(directory, 'sbin/init')))).toBe(true);
  await rm(root, { recursive: true });
  return image;
}
