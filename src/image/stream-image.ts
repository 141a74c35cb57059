import type { Writable } from 'node:stream';
import type { WorkOptions } from '../progress';
import { MiB } from '../units';
import { readAt } from './file-io';
import type { Manifest } from './manifest';
import { encodeSlots, slotsLength } from './manifest-slots';
import { parseSuperblock, superblockLength, superblockOffset, withReadOnlyFeature } from './superblock';
import { type ViewLayer, viewPieces } from './view-pieces';

const chunkLength = MiB;
const zeroes = Buffer.alloc(chunkLength);

/**
 * Writes the disk of a chain, bottom first, zeroes for holes, and `manifest` behind it: the bytes of the image that a copy would be. Leaves the stream
 * open. ext4's `read-only` feature is left out. Rejects with the stream's own error (EPIPE where the reader has gone).
 */
export async function writeImageToStream(
  layers: readonly ViewLayer[],
  manifest: Manifest,
  stream: Writable,
  options: WorkOptions = {},
): Promise<void> {
  // Each error is that of a write, and comes as an event too, maybe later.
  stream.on('error', () => {});
  const slots = encodeSlots({ ...manifest, sizeBytes: layers.at(-1)?.sizeBytes ?? 0 });
  let isFirst = true;
  for await (const chunk of imageChunks(layers, slots, options)) {
    options.signal?.throwIfAborted();
    await write(stream, isFirst ? writable(chunk) : chunk, options.signal);
    isFirst = false;
  }
}

/** The beginning of a disk without ext4's `read-only` feature, which only a sealed file has. */
function writable(head: Buffer): Buffer {
  return parseSuperblock(head.subarray(superblockOffset, superblockOffset + superblockLength))?.readOnly
    ? withReadOnlyFeature(head, false)
    : head;
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

async function* imageChunks(layers: readonly ViewLayer[], slots: Buffer, { onProgress, signal }: WorkOptions): AsyncGenerator<Buffer> {
  const totalBytes = (layers.at(-1)?.sizeBytes ?? 0) + slotsLength;
  // A chain's pieces may be small: they go out together.
  let parts: Buffer[] = [];
  let room = chunkLength;
  for await (const pieces of viewPieces(layers, signal)) {
    for (const { start, end, layer } of pieces) {
      for (let position = start; position < end; ) {
        const length = Math.min(room, end - position);
        const part = layer ? await readLayer(layer, position, length) : zeroes.subarray(0, length);
        position += part.length;
        room -= part.length;
        parts.push(part);
        if (room > 0) continue;
        yield Buffer.concat(parts);
        onProgress?.({ action: 'writing', doneBytes: position, totalBytes });
        parts = [];
        room = chunkLength;
      }
    }
  }
  yield Buffer.concat([...parts, slots]);
  onProgress?.({ action: 'writing', doneBytes: totalBytes, totalBytes });
}

async function readLayer({ fd, label, delta }: ViewLayer, position: number, length: number): Promise<Buffer> {
  const chunk = await readAt(fd, (delta?.dataOffset ?? 0) + position, length);
  if (chunk.length === 0) throw new Error(`"${label}" became shorter while it was read`);
  return chunk;
}
