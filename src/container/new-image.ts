import { LoopboxError } from '../errors';
import type { Chain } from '../image/chain';
import { checkFileSystem, replayJournal } from '../image/check-filesystem';
import { copyView } from '../image/copy-view';
import { setLength } from '../image/file-io';
import { freeUuid } from '../image/free-uuid';
import { growFileSystem } from '../image/grow-filesystem';
import { imageSize } from '../image/make-filesystem';
import { slotsLength } from '../image/manifest-slots';
import { NewFile } from '../image/new-file';
import { lengthen } from '../image/lengthen';
import { readSuperblock, setReadOnlyFeature } from '../image/superblock';
import type { WorkOptions } from '../progress';
import { formatSize, MiB } from '../units';

const defaultBlockSize = 4096;

/** An image in the making: a file without a name, holding a file system that is grown, mounted and filled before it is published. */
export interface ImageCopy extends AsyncDisposable {
  file: NewFile;
  sizeBytes: number;
  blockSize: number;
  how: 'reflink' | 'copy';
}

/**
 * Copies the file system of a state (not its manifest) into a new file in `directory`, unsealed, and grows it to `sizeBytes`.
 * A size below the source's is ERR_LOOPBOX_USAGE. What is from elsewhere (`check`) has its journal replayed and is checked.
 */
export async function copyToNewImage(
  source: Chain,
  directory: string,
  options: WorkOptions & { label: string; sizeBytes?: number | undefined; check: boolean },
): Promise<ImageCopy> {
  const wanted = targetSize(source, options.label, options.sizeBytes);
  const file = await NewFile.create(directory);
  try {
    if (wanted > source.sizeBytes) await requireLength(file.fd, wanted);
    const how = await copyView(source.viewLayers(), file.fd, options);
    await setReadOnlyFeature(file.fd, false);
    const superblock = await readSuperblock(file.fd);
    if (options.check) {
      if (superblock?.needsRecovery) await replayJournal(file.fd, options.label, options.signal);
      await checkFileSystem(file.fd, options.label, options.signal);
      await freeUuid(file.fd, options.signal);
    }
    if (wanted > source.sizeBytes) await growFileSystem(file.fd, wanted, options.signal);
    return {
      file,
      sizeBytes: wanted,
      blockSize: superblock?.blockSize ?? defaultBlockSize,
      how,
      [Symbol.asyncDispose]: () => file.close(),
    };
  } catch (error) {
    await file.close();
    throw error;
  }
}

/** Before anything is copied that could not become so large. */
async function requireLength(fd: number, sizeBytes: number): Promise<void> {
  await lengthen(fd, sizeBytes + slotsLength, `a disk of ${formatSize(sizeBytes)}`);
  await setLength(fd, 0);
}

/** The size of the copy: as wanted, at least the source's, and such that stock resize2fs finds nothing to grow into. */
export function targetSize(source: Chain, label: string, wanted: number | undefined): number {
  if (source.sizeBytes % MiB !== 0) {
    throw new LoopboxError(
      'ERR_LOOPBOX_NOT_SUPPORTED',
      `Cannot import "${label}": its file system of ${source.sizeBytes} bytes is not a multiple of 1 MiB`,
      {
        hint: `truncate -s %1M ${source.top.path} && e2fsck -f ${source.top.path} && resize2fs ${source.top.path}`,
      },
    );
  }
  if (wanted !== undefined && wanted < source.sizeBytes) {
    throw new LoopboxError(
      'ERR_LOOPBOX_USAGE',
      `Cannot make "${label}" ${formatSize(wanted)}: the source has ${formatSize(source.sizeBytes)}`,
      {
        hint: `--size ${formatSize(source.sizeBytes).replace(' ', '')}, or more`,
      },
    );
  }
  return imageSize(wanted ?? source.sizeBytes);
}
