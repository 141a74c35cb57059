import { LoopboxError } from '../errors';
import { crc32c } from './crc32c';
import { readAt, writeAt } from './file-io';

/** Where ext4's superblock lies in the image, and its length. */
export const superblockOffset = 1024;
export const superblockLength = 1024;
/** Where in it ext4's checksum of what is before lies. */
export const superblockChecksumOffset = 0x3fc;

/** What ext4's primary superblock says. Source: linux/fs/ext4/ext4.h, struct ext4_super_block. */
export interface Superblock {
  blockSize: number;
  /** The file system's size; 0 where the superblock's geometry makes no sense. */
  sizeBytes: number;
  /** As of the last time the kernel wrote the superblock: exact after umount, roughly right while mounted. */
  freeBytes: number;
  /** What ext4 keeps for itself (journal, inode tables): no part of the size that `df` shows inside. 0 where it is not written down. */
  overheadBytes: number;
  /** False for a journal device: the one thing with ext4's magic that the kernel's ext4 does not mount. */
  isExt4: boolean;
  /** Its journal lies on another device of whatever host mounts it, by a field or by mount options of its own. */
  hasForeignJournal: boolean;
  needsRecovery: boolean;
  /** The `read-only` feature is set: the kernel mounts it only read-only. */
  readOnly: boolean;
  hasErrors: boolean;
  /** Was mounted since its last full check: resize2fs then wants `e2fsck -f` first. */
  needsCheck: boolean;
  /** The uuid is part of every metadata checksum: it can't be changed while the file system is mounted. */
  checksumsNeedUuid: boolean;
  /** True also where the file system carries no checksums. */
  checksumValid: boolean;
}

const at = {
  blocksLow: 0x04,
  freeLow: 0x0c,
  logBlockSize: 0x18,
  logClusterSize: 0x1c,
  mountTime: 0x2c,
  magic: 0x38,
  state: 0x3a,
  lastCheck: 0x40,
  incompatible: 0x60,
  readOnlyCompatible: 0x64,
  journalDevice: 0xe4,
  blocksHigh: 0x150,
  mountOptions: 0x200,
  freeHigh: 0x158,
  overhead: 0x248,
};
const mountOptionsLength = 64;
/** ext4's clusters end at 1 GiB. */
const maxLogClusterSize = 20;
const magic = 0xef53;
const stateValid = 0x1;
const stateErrors = 0x2;
const incompatibleRecover = 0x4;
const incompatibleJournalDevice = 0x8;
const incompatible64Bit = 0x80;
const incompatibleChecksumSeed = 0x2000;
const readOnlyCompatibleMetadataChecksum = 0x400;
const readOnlyCompatibleReadOnly = 0x1000;

/** Reads a superblock from its 1024 bytes; undefined where they lack ext4's magic. */
export function parseSuperblock(bytes: Buffer): Superblock | undefined {
  if (bytes.length < superblockLength || bytes.readUInt16LE(at.magic) !== magic) return undefined;
  const incompatible = bytes.readUInt32LE(at.incompatible);
  const readOnlyCompatible = bytes.readUInt32LE(at.readOnlyCompatible);
  const logBlockSize = bytes.readUInt32LE(at.logBlockSize);
  const blockSize = logBlockSize <= 6 ? 1024 << logBlockSize : 0;
  const wide = (incompatible & incompatible64Bit) !== 0;
  const blocks = bytes.readUInt32LE(at.blocksLow) + (wide ? bytes.readUInt32LE(at.blocksHigh) * 2 ** 32 : 0);
  const free = bytes.readUInt32LE(at.freeLow) + (wide ? bytes.readUInt32LE(at.freeHigh) * 2 ** 32 : 0);
  // A cluster is a block where bigalloc is off.
  const logClusterSize = bytes.readUInt32LE(at.logClusterSize);
  const overhead = logClusterSize <= maxLogClusterSize ? bytes.readUInt32LE(at.overhead) * 1024 * 2 ** logClusterSize : 0;
  const sizeBytes = blocks * blockSize;
  const state = bytes.readUInt16LE(at.state);
  return {
    blockSize,
    sizeBytes: Number.isSafeInteger(sizeBytes) ? sizeBytes : 0,
    freeBytes: Math.min(free * blockSize, sizeBytes),
    overheadBytes: Math.min(overhead, sizeBytes),
    isExt4: (incompatible & incompatibleJournalDevice) === 0,
    hasForeignJournal:
      bytes.readUInt32LE(at.journalDevice) !== 0 ||
      /journal_(dev|path)/.test(bytes.toString('latin1', at.mountOptions, at.mountOptions + mountOptionsLength)),
    needsRecovery: (incompatible & incompatibleRecover) !== 0,
    readOnly: (readOnlyCompatible & readOnlyCompatibleReadOnly) !== 0,
    hasErrors: (state & stateErrors) !== 0,
    needsCheck: (state & stateValid) === 0 || bytes.readUInt32LE(at.lastCheck) < bytes.readUInt32LE(at.mountTime),
    checksumsNeedUuid: hasChecksum(bytes) && (incompatible & incompatibleChecksumSeed) === 0,
    checksumValid: !hasChecksum(bytes) || bytes.readUInt32LE(superblockChecksumOffset) === checksumOf(bytes),
  };
}

/** Whether the file holds something with ext4's magic, sound or not. */
export async function hasExt4Magic(fd: number): Promise<boolean> {
  return (await readSuperblock(fd)) !== undefined;
}

/** Reads the image's primary superblock; undefined where there is no ext4 magic. */
export async function readSuperblock(fd: number): Promise<Superblock | undefined> {
  return parseSuperblock(await readAt(fd, superblockOffset, superblockLength));
}

/**
 * Sets or clears ext4's `read-only` feature in the primary superblock, checksum included, in one write; the caller syncs.
 * Only for a file system that is not mounted: ext4 would write its own copy over it. Idempotent. CORRUPT where the superblock is damaged.
 */
export async function setReadOnlyFeature(fd: number, on: boolean): Promise<void> {
  const bytes = await readAt(fd, superblockOffset, superblockLength);
  if (changeReadOnlyFeature(bytes, on)) await writeAt(fd, superblockOffset, bytes);
}

/** A copy of a disk's beginning with ext4's `read-only` feature set or cleared, checksum included. CORRUPT where the superblock is damaged. */
export function withReadOnlyFeature(head: Buffer, on: boolean): Buffer {
  const copy = Buffer.from(head);
  changeReadOnlyFeature(copy.subarray(superblockOffset, superblockOffset + superblockLength), on);
  return copy;
}

/** A copy of a superblock, sound or not, with the feature's bit cleared; its checksum is left as it is. */
export function withoutReadOnlyFeature(superblock: Buffer): Buffer {
  const copy = Buffer.from(superblock);
  if (copy.length >= superblockLength)
    copy.writeUInt32LE((copy.readUInt32LE(at.readOnlyCompatible) & ~readOnlyCompatibleReadOnly) >>> 0, at.readOnlyCompatible);
  return copy;
}

/** Returns whether the superblock in `bytes` was changed. */
function changeReadOnlyFeature(bytes: Buffer, on: boolean): boolean {
  const superblock = parseSuperblock(bytes);
  if (!superblock?.checksumValid) {
    throw new LoopboxError('ERR_LOOPBOX_CORRUPT', `Cannot set the file system's "read-only" feature: its superblock is damaged`);
  }
  if (superblock.readOnly === on) return false;
  const features = bytes.readUInt32LE(at.readOnlyCompatible);
  bytes.writeUInt32LE((features ^ readOnlyCompatibleReadOnly) >>> 0, at.readOnlyCompatible);
  if (hasChecksum(bytes)) bytes.writeUInt32LE(checksumOf(bytes), superblockChecksumOffset);
  return true;
}

function hasChecksum(bytes: Buffer): boolean {
  return (bytes.readUInt32LE(at.readOnlyCompatible) & readOnlyCompatibleMetadataChecksum) !== 0;
}

function checksumOf(bytes: Buffer): number {
  return ~crc32c(bytes.subarray(0, superblockChecksumOffset)) >>> 0;
}
