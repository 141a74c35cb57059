import { randomBytes } from 'node:crypto';
import { closeSync, constants, fsyncSync, ftruncateSync, openSync, writeSync } from 'node:fs';
import { output } from '../harness/command.mjs';
import { fill } from '../harness/fio.mjs';

const KiB = 1024;
const MiB = 2 ** 20;
const blockBytes = 4 * KiB;

/** A layer of a chain as its server is told it, but for the descriptor. */
export const imageLayer = (path, sizeBytes) => ({ kind: 'image', path, sizeBytes, mapOffset: 0, dataOffset: 0 });
const deltaLayer = (path, sizeBytes) => ({ kind: 'delta', path, sizeBytes, mapOffset: MiB, dataOffset: roundUp(MiB + mapRoom(sizeBytes)) });

const roundUp = (bytes) => Math.ceil(bytes / MiB) * MiB;
const mapRoom = (sizeBytes) => Math.ceil((8 * sizeBytes) / blockBytes / 8 / blockBytes) * blockBytes;

/** An image all of which is written, or nothing. */
export function makeImage(path, sizeBytes, { full = true } = {}) {
  withFile(path, (fd) => ftruncateSync(fd, sizeBytes));
  if (full) fill(path, sizeBytes);
  return imageLayer(path, sizeBytes);
}

/** A delta without a manifest, which a server does not read. `owned` says of each block whether the delta has it; its data is still a hole. */
export function makeDelta(path, sizeBytes, owned = () => false) {
  const layer = deltaLayer(path, sizeBytes);
  const map = Buffer.alloc(mapRoom(sizeBytes));
  for (let block = 0; block < sizeBytes / blockBytes; block++) if (owned(block)) map[block >> 3] |= 1 << (block & 7);
  withFile(path, (fd) => {
    ftruncateSync(fd, layer.dataOffset + sizeBytes);
    writeSync(fd, map, 0, map.length, layer.mapOffset);
  });
  return layer;
}

export function makeFullDelta(path, sizeBytes) {
  const layer = makeDelta(path, sizeBytes, () => true);
  fill(path, sizeBytes, layer.dataOffset);
  return layer;
}

/**
 * A chain of so many files, on which the first `stripedBytes` of the disk are dealt out in stripes of `stripeBytes`, in turn; the top owns
 * the `topBytes` behind them; the rest is a hole.
 */
export function makeStripedChain(pathOf, length, { sizeBytes, stripedBytes, stripeBytes, topBytes }) {
  const [stripeBlocks, stripedBlocks, topEnd] = [stripeBytes, stripedBytes, stripedBytes + topBytes].map((bytes) => bytes / blockBytes);
  return Array.from({ length }, (_, index) => {
    const path = pathOf(index);
    const isTop = index === length - 1;
    const isOwn = (block) => (block < stripedBlocks ? Math.floor(block / stripeBlocks) % length === index : isTop && block < topEnd);
    const layer = index === 0 ? makeImage(path, sizeBytes, { full: false }) : makeDelta(path, sizeBytes, isOwn);
    withFile(path, (fd) => {
      const data = randomBytes(stripeBytes);
      for (let at = 0; at < stripedBytes + topBytes; at += stripeBytes) {
        if (isOwn(at / blockBytes)) writeSync(fd, data, 0, data.length, layer.dataOffset + at);
      }
    });
    return layer;
  });
}

/** Takes a file's pages out of the page cache. */
export function forget(path) {
  output('dd', [`of=${path}`, 'oflag=nocache', 'conv=notrunc,fdatasync', 'count=0', 'status=none']);
}

function withFile(path, body) {
  const fd = openSync(path, constants.O_RDWR | constants.O_CREAT);
  try {
    body(fd);
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}
