import { crc32c } from '../../../src/image/crc32c';
import type { Manifest } from '../../../src/image/manifest';
import { MiB } from '../../../src/units';

export const uuids = {
  container: '11111111-2222-4333-8444-555555555555',
  state: 'aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee',
};

export function sampleManifest(changes: Partial<Manifest> = {}): Manifest {
  return {
    kind: 'image',
    container: uuids.container,
    state: uuids.state,
    name: 'web',
    sizeBytes: 2 * MiB,
    created: '2025-01-02T03:04:05.678Z',
    config: {
      command: ['/bin/sh', '-c', 'true'],
      environment: { PATH: '/bin' },
      limits: { memoryBytes: 64 * MiB, cpus: 0.5, pids: 40 },
      labels: {},
    },
    ...changes,
  };
}

export interface SuperblockFields {
  sizeBytes?: number;
  logBlockSize?: number;
  incompatible?: number;
  readOnlyCompatible?: number;
  state?: number;
}

/** A superblock as mke2fs writes it, as far as anybody here reads it; with a metadata checksum. */
export function superblockBytes(fields: SuperblockFields = {}): Buffer {
  const { sizeBytes = 2 * MiB, logBlockSize = 2, incompatible = 0x22c2, readOnlyCompatible = 0x46b, state = 1 } = fields;
  const blocks = BigInt(sizeBytes / (1024 << logBlockSize));
  const bytes = Buffer.alloc(1024);
  bytes.writeUInt32LE(Number(blocks & 0xffffffffn), 0x04);
  bytes.writeUInt32LE(Number(blocks >> 32n), 0x150);
  bytes.writeUInt32LE(100, 0x0c);
  bytes.writeUInt32LE(logBlockSize, 0x18);
  bytes.writeUInt32LE(logBlockSize, 0x1c);
  bytes.writeUInt32LE(8 * (1024 << logBlockSize), 0x20);
  bytes.writeUInt16LE(0xef53, 0x38);
  bytes.writeUInt16LE(state, 0x3a);
  bytes.writeUInt32LE(1_700_000_000, 0x40);
  bytes.writeUInt32LE(incompatible, 0x60);
  bytes.writeUInt32LE(readOnlyCompatible, 0x64);
  bytes.write('00112233445566778899aabbccddeeff', 0x68, 'hex');
  bytes.writeUInt32LE(20, 0x248);
  bytes.writeUInt32LE(~crc32c(bytes.subarray(0, 0x3fc)) >>> 0, 0x3fc);
  return bytes;
}

/** Bytes that are the same in every run (mulberry32). */
export function seededBytes(seed: number, length: number): Buffer {
  let state = seed;
  const bytes = Buffer.alloc(length);
  for (let i = 0; i < length; i++) {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    bytes[i] = t >>> 24;
  }
  return bytes;
}
