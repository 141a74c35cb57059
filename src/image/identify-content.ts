interface Signature {
  name: string;
  offset: number;
  magic: string | number[];
  /** What tar archives show; their compressions are told by name. */
  kind?: 'tar';
}

/** How much of a file `identifyContent` wants to see: the signature that lies deepest is btrfs's. */
export const identifyLength = 0x10048;

/** First match counts; `name` fits into "it is …". */
const signatures: Signature[] = [
  { name: 'a tar archive', offset: 257, magic: 'ustar', kind: 'tar' },
  { name: 'gzip', offset: 0, magic: [0x1f, 0x8b] },
  { name: 'xz', offset: 0, magic: [0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00] },
  { name: 'zstd', offset: 0, magic: [0x28, 0xb5, 0x2f, 0xfd] },
  { name: 'bzip2 data', offset: 0, magic: 'BZh' },
  { name: 'lz4 data', offset: 0, magic: [0x04, 0x22, 0x4d, 0x18] },
  { name: 'a zip archive', offset: 0, magic: 'PK\x03\x04' },
  { name: 'a 7z archive', offset: 0, magic: [0x37, 0x7a, 0xbc, 0xaf] },
  { name: 'a cpio archive', offset: 0, magic: '07070' },
  { name: 'an XFS file system', offset: 0, magic: 'XFSB' },
  { name: 'a btrfs file system', offset: 0x10040, magic: '_BHRfS_M' },
  { name: 'a squashfs file system', offset: 0, magic: 'hsqs' },
  { name: 'an f2fs file system', offset: 1024, magic: [0x10, 0x20, 0xf5, 0xf2] },
  { name: 'an EROFS file system', offset: 1024, magic: [0xe2, 0xe1, 0xf5, 0xe0] },
  { name: 'an NTFS file system', offset: 3, magic: 'NTFS    ' },
  { name: 'an ISO 9660 file system', offset: 0x8001, magic: 'CD001' },
  { name: 'swap space', offset: 4086, magic: 'SWAPSPACE2' },
  { name: 'a LUKS container', offset: 0, magic: 'LUKS\xba\xbe' },
  { name: 'an LVM volume', offset: 512, magic: 'LABELONE' },
  { name: 'a qcow2 image', offset: 0, magic: 'QFI\xfb' },
  { name: 'a VMDK image', offset: 0, magic: 'KDMV' },
  { name: 'a VHDX image', offset: 0, magic: 'vhdxfile' },
  { name: 'a ploop image', offset: 0, magic: 'WithoutFreeSpace' },
  { name: 'a ploop image', offset: 0, magic: 'WithouFreSpacExt' },
  { name: 'a disk with a partition table', offset: 512, magic: 'EFI PART' },
  { name: 'a FAT file system', offset: 82, magic: 'FAT32   ' },
  { name: 'an ext4 image', offset: 1080, magic: [0x53, 0xef] },
  { name: 'a disk with a partition table', offset: 510, magic: [0x55, 0xaa] },
];

/** What a file's first bytes show it to be (up to `identifyLength` of them); undefined where nothing is recognized. */
export function identifyContent(bytes: Buffer): Signature | undefined {
  return signatures.find(({ offset, magic }) => {
    const wanted = typeof magic === 'string' ? Buffer.from(magic, 'latin1') : Buffer.from(magic);
    return bytes.subarray(offset, offset + wanted.length).equals(wanted);
  });
}
