interface Signature {
  name: string;
  offset: number;
  magic: string | number[];
  kind: 'tar' | 'compression' | 'other';
}

/** How much of a file `identifyContent` wants to see: the signature that lies deepest is btrfs's. */
export const identifyLength = 0x10048;

/** First match counts. `compression` is what tar archives are read through; `name` fits into "it is …". */
const signatures: Signature[] = [
  { name: 'a tar archive', offset: 257, magic: 'ustar', kind: 'tar' },
  { name: 'gzip', offset: 0, magic: [0x1f, 0x8b], kind: 'compression' },
  { name: 'xz', offset: 0, magic: [0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00], kind: 'compression' },
  { name: 'zstd', offset: 0, magic: [0x28, 0xb5, 0x2f, 0xfd], kind: 'compression' },
  { name: 'bzip2 data', offset: 0, magic: 'BZh', kind: 'other' },
  { name: 'lz4 data', offset: 0, magic: [0x04, 0x22, 0x4d, 0x18], kind: 'other' },
  { name: 'a zip archive', offset: 0, magic: 'PK\x03\x04', kind: 'other' },
  { name: 'a 7z archive', offset: 0, magic: [0x37, 0x7a, 0xbc, 0xaf], kind: 'other' },
  { name: 'a cpio archive', offset: 0, magic: '07070', kind: 'other' },
  { name: 'an XFS file system', offset: 0, magic: 'XFSB', kind: 'other' },
  { name: 'a btrfs file system', offset: 0x10040, magic: '_BHRfS_M', kind: 'other' },
  { name: 'a squashfs file system', offset: 0, magic: 'hsqs', kind: 'other' },
  { name: 'an f2fs file system', offset: 1024, magic: [0x10, 0x20, 0xf5, 0xf2], kind: 'other' },
  { name: 'an EROFS file system', offset: 1024, magic: [0xe2, 0xe1, 0xf5, 0xe0], kind: 'other' },
  { name: 'an NTFS file system', offset: 3, magic: 'NTFS    ', kind: 'other' },
  { name: 'an ISO 9660 file system', offset: 0x8001, magic: 'CD001', kind: 'other' },
  { name: 'swap space', offset: 4086, magic: 'SWAPSPACE2', kind: 'other' },
  { name: 'a LUKS container', offset: 0, magic: 'LUKS\xba\xbe', kind: 'other' },
  { name: 'an LVM volume', offset: 512, magic: 'LABELONE', kind: 'other' },
  { name: 'a qcow2 image', offset: 0, magic: 'QFI\xfb', kind: 'other' },
  { name: 'a VMDK image', offset: 0, magic: 'KDMV', kind: 'other' },
  { name: 'a VHDX image', offset: 0, magic: 'vhdxfile', kind: 'other' },
  { name: 'a ploop image', offset: 0, magic: 'WithoutFreeSpace', kind: 'other' },
  { name: 'a ploop image', offset: 0, magic: 'WithouFreSpacExt', kind: 'other' },
  { name: 'a disk with a partition table', offset: 512, magic: 'EFI PART', kind: 'other' },
  { name: 'a FAT file system', offset: 82, magic: 'FAT32   ', kind: 'other' },
  { name: 'a disk with a partition table', offset: 510, magic: [0x55, 0xaa], kind: 'other' },
];

/** What a file's first bytes show it to be (up to `identifyLength` of them), ext4 aside; undefined where nothing is recognized. */
export function identifyContent(bytes: Buffer): Signature | undefined {
  return signatures.find(({ offset, magic }) => {
    const wanted = typeof magic === 'string' ? Buffer.from(magic, 'latin1') : Buffer.from(magic);
    return bytes.subarray(offset, offset + wanted.length).equals(wanted);
  });
}
