import { rename } from 'node:fs/promises';
import { join } from 'node:path';
import { prepareTop } from '../../src/image/commit-top';
import { readAt } from '../../src/image/file-io';
import { openLayer } from '../../src/image/layer-file';
import type { Manifest } from '../../src/image/manifest';

/** The next top of `web`, as a snapshot of a running container prepares it. Returns where its map and data are. */
export async function prepareNext(directory: string, top: string, sizeBytes: number): Promise<string[]> {
  await using file = await openLayer(join(directory, top));
  const { state, created, container = '', name = '', config } = file.manifest as Manifest;
  const block0 = await readAt(file.fd, file.kind === 'image' ? 0 : file.dataOffset, 4096);
  const manifest = { created, container, name, config };
  const { path } = await prepareTop({ directory, name: 'web', sizeBytes, parent: { state, hint: top }, block0, manifest });
  await using next = await openLayer(path);
  if (next.kind !== 'delta') throw new Error(`"${path}" is no delta`);
  return [String(next.mapOffset), String(next.dataOffset)];
}

/** Puts an empty top of another size on `parent`, in the place of the one that is there. */
export async function replaceTop(directory: string, parent: string, sizeBytes: number): Promise<void> {
  await prepareNext(directory, parent, sizeBytes);
  await rename(join(directory, 'web.next'), join(directory, 'web.delta'));
}
