import { run } from '../process';
import { formatSize, KiB, MiB, roundUp } from '../units';
import { lengthen } from './lengthen';

/** A whole block group: in a disk that is a multiple of it stock resize2fs finds nothing to grow into. */
const sizeStep = 128 * MiB;
const maxJournal = 64 * MiB;

/** Everything explicit; no `orphan_file`, which older e2fsck refuse; `metadata_csum_seed` makes a new uuid cheap. */
const features = [
  'none',
  'has_journal',
  'ext_attr',
  'resize_inode',
  'dir_index',
  'filetype',
  'extent',
  '64bit',
  'flex_bg',
  'sparse_super',
  'large_file',
  'huge_file',
  'dir_nlink',
  'extra_isize',
  'metadata_csum',
  'metadata_csum_seed',
];

/** The size of an image that holds at least `bytes`: rounded up to 128 MiB. */
export function imageSize(bytes: number): number {
  return Math.max(sizeStep, roundUp(bytes, sizeStep));
}

/** Makes an empty ext4 file system by the recipe in the first `sizeBytes` of an empty file, which gets that length and stays sparse. */
export async function makeFileSystem(fd: number, sizeBytes: number, signal?: AbortSignal): Promise<void> {
  await lengthen(fd, sizeBytes, `a disk of ${formatSize(sizeBytes)}`);
  const journalMiB = Math.floor(Math.min(maxJournal, sizeBytes / 16) / MiB);
  const args = ['-q', '-F', '-t', 'ext4', '-b', `${4 * KiB}`, '-I', '256', '-i', `${16 * KiB}`, '-G', '16', '-m', '0'];
  args.push('-J', `size=${journalMiB}`, '-O', features.join(','), '-e', 'remount-ro');
  args.push('-E', 'discard,lazy_itable_init=0,lazy_journal_init=1,root_owner=0:0', '/dev/fd/3', `${sizeBytes / KiB}k`);
  // The host's mke2fs.conf has no say in what our images are.
  await run('mke2fs', args, { fds: [fd], env: { MKE2FS_CONFIG: '/dev/null' }, signal });
}
