import type { Writable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { native } from '../native';
import type { WorkOptions } from '../progress';
import { MiB } from '../units';
import { readAt } from './file-io';
import type { ImageFile } from './image-file';
import type { Manifest } from './manifest';
import { encodeSlots, slotsLength } from './manifest-slots';

const chunkLength = MiB;
const zeroes = Buffer.alloc(chunkLength);

/**
 * Writes an image's disk, zeroes for holes, and `manifest` behind it: the bytes of the file that a copy would be. Leaves the stream open.
 * Rejects with the stream's own error (EPIPE where the reader has gone).
 */
export async function writeImageToStream(image: ImageFile, manifest: Manifest, stream: Writable, options: WorkOptions = {}): Promise<void> {
  const chunks = imageChunks(image, encodeSlots({ ...manifest, sizeBytes: image.sizeBytes }), options);
  await pipeline(chunks, stream, { end: false, ...(options.signal && { signal: options.signal }) });
}

async function* imageChunks({ fd, sizeBytes, label }: ImageFile, slots: Buffer, { onProgress }: WorkOptions): AsyncGenerator<Buffer> {
  let position = 0;
  const report = () => onProgress?.({ action: 'writing', doneBytes: position, totalBytes: sizeBytes + slotsLength });
  while (position < sizeBytes) {
    const data = await native().nextData(fd, position);
    const dataStart = Math.min(data?.start ?? sizeBytes, sizeBytes);
    const dataEnd = Math.min(data?.end ?? sizeBytes, sizeBytes);
    while (position < dataEnd) {
      const isHole = position < dataStart;
      const length = Math.min(chunkLength, (isHole ? dataStart : dataEnd) - position);
      const chunk = isHole ? zeroes.subarray(0, length) : await readAt(fd, position, length);
      if (chunk.length === 0) throw new Error(`"${label}" became shorter while it was read`);
      yield chunk;
      position += chunk.length;
      report();
    }
  }
  yield slots;
  position += slotsLength;
  report();
}
