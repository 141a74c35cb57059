import type { Writable } from 'node:stream';
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
  // Each error is that of a write, and comes as an event too, maybe later.
  stream.on('error', () => {});
  for await (const chunk of imageChunks(image, encodeSlots({ ...manifest, sizeBytes: image.sizeBytes }), options)) {
    options.signal?.throwIfAborted();
    await write(stream, chunk, options.signal);
  }
}

/** One write; `pipeline` would wait for ever where an abort finds the reader asleep and the stream is to stay open. */
function write(stream: Writable, chunk: Buffer, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve, reject) => {
    const settle = (error?: unknown) => {
      stream.off('error', settle).off('close', closed);
      signal?.removeEventListener('abort', aborted);
      if (error) reject(error);
      else resolve();
    };
    const closed = () => settle(new Error('The stream was closed before all was written'));
    const aborted = () => settle(signal?.reason);
    stream.on('error', settle).on('close', closed);
    signal?.addEventListener('abort', aborted);
    stream.write(chunk, settle);
  });
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
