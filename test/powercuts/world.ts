import { closeSync, openSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { placeManifest } from '../../src/image/image-file';
import type { Manifest } from '../../src/image/manifest';
import { sealNewImage } from '../../src/image/seal';
import { MiB } from '../../src/units';
import { newUuid } from '../../src/uuid';
import { busyboxTar } from '../busybox-tar';
import { shell } from '../execute';
import { TestStore } from '../store';
import { temporaryDirectory } from '../temporary';
import { sampleManifest } from '../unit/image/golden';

/** V of the disks whose power is cut. */
export const sizeBytes = 16 * MiB;

/** Makes a small ext4 image with a journal and a few files. */
async function makeSmallImage(path: string): Promise<void> {
  const root = join(await temporaryDirectory(), 'root');
  await mkdir(root);
  await shell('tar', '-C', root, '-xf', await busyboxTar());
  await writeFile(join(root, 'root/big'), Buffer.alloc(100_000, 'big'));
  await shell('truncate', '-s', String(sizeBytes), path);
  await shell('mkfs.ext4', '-q', '-F', '-b', '4096', '-J', 'size=4', '-d', root, path);
}

/** Places a small image where a container or a template is looked for. Returns its state. */
export async function placeSmallImage(path: string, name: string, isSealed: boolean, command: string[]): Promise<string> {
  await makeSmallImage(path);
  const { container: _, config, ...rest } = sampleManifest({ name, sizeBytes, state: newUuid() });
  const sample: Manifest = { ...rest, config: { ...config, command, attach: 'stack' } };
  const manifest: Manifest = isSealed ? sample : { ...sample, container: newUuid() };
  const fd = openSync(path, 'r+');
  try {
    await (isSealed ? sealNewImage : placeManifest)(fd, sizeBytes, manifest);
  } finally {
    closeSync(fd);
  }
  return manifest.state;
}

/** A store with the stopped container `web`, an image of 16 MiB, and the template `small`, the same. */
export async function smallStore(command = ['sleep', '1000']): Promise<TestStore> {
  const store = await TestStore.create();
  await mkdir(join(store.root, 'containers'), { recursive: true });
  await mkdir(join(store.root, 'templates'), { recursive: true });
  await placeSmallImage(store.imageOf('web'), 'web', false, command);
  await placeSmallImage(join(store.root, 'templates/small.img'), 'small', true, command);
  return store;
}
