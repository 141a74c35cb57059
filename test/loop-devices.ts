import { readdirSync, readFileSync } from 'node:fs';

export interface AttachedLoop {
  index: number;
  /** The kernel's name of the file, ending in ` (deleted)` where it has none any more. */
  backingFile: string;
  /** Loop numbers are reused; the sequence number tells one use from the next. */
  diskSequence: number;
}

/** Every loop device of the host that something is attached to. */
export function attachedLoops(): AttachedLoop[] {
  return readdirSync('/sys/block')
    .filter((name) => name.startsWith('loop'))
    .flatMap((name) => {
      const backingFile = text(`/sys/block/${name}/loop/backing_file`);
      const diskSequence = Number(text(`/sys/block/${name}/diskseq`));
      return backingFile === undefined ? [] : [{ index: Number(name.slice(4)), backingFile, diskSequence }];
    });
}

/** Undefined where the device has been detached meanwhile. */
function text(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8').trimEnd();
  } catch {
    return undefined;
  }
}
