import { existsSync, readdirSync, readFileSync } from 'node:fs';

/** What /sys/block/loopN tells of an attached loop device. */
export interface LoopState {
  /** Differs between two attachments of one number, and from every other disk's since boot. */
  diskSequence: number;
  /** Whether the kernel reads and writes the file past the page cache. */
  directIo: boolean;
}

/** The device's state, or undefined where nothing is attached to it. */
export function readLoop(index: number): LoopState | undefined {
  const directory = `/sys/block/loop${index}`;
  const read = (name: string) => readFileSync(`${directory}/${name}`, 'utf8').trim();
  try {
    // A device that is not attached has a diskseq, too, and no directory `loop`.
    return { directIo: read('loop/dio') === '1', diskSequence: Number(read('diskseq')) };
  } catch (error) {
    if (isGone(error)) return undefined;
    throw error;
  }
}

/** The numbers of the loop devices that something is attached to. */
export function attachedNumbers(): number[] {
  return loopNumbers().filter((index) => existsSync(`/sys/block/loop${index}/loop/backing_file`));
}

/** What `info` tells of the host's loop devices. */
export interface LoopLimits {
  devices: number;
  attached: number;
  /** The module parameter `max_loop`: devices made beforehand. More are added when they are asked for. */
  preset: number | undefined;
}

export function loopLimits(): LoopLimits {
  return { devices: loopNumbers().length, attached: attachedNumbers().length, preset: readPreset() };
}

function readPreset(): number | undefined {
  try {
    return Number(readFileSync('/sys/module/loop/parameters/max_loop', 'utf8'));
  } catch (error) {
    if (isGone(error)) return undefined;
    throw error;
  }
}

/** The numbers of all loop devices, attached or not. */
function loopNumbers(): number[] {
  return readdirSync('/sys/block')
    .filter((name) => /^loop\d+$/.test(name))
    .map((name) => Number(name.slice(4)))
    .sort((a, b) => a - b);
}

/** A device that is cleared meanwhile loses its files, or answers ENXIO or EIO on those that are still open. */
function isGone(error: unknown): boolean {
  return ['ENOENT', 'ENXIO', 'ENODEV', 'EIO'].includes((error as NodeJS.ErrnoException).code ?? '');
}
