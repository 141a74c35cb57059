import { Descriptor } from '../descriptor';
import { explain, isSystemError, LoopboxError } from '../errors';
import { native } from '../native';
import type { Warn } from '../progress';
import { type LoopState, readLoop } from './list-loops';

export interface AttachOptions {
  /** The backing file. The device keeps this open file description, and with it a flock on it, until it is cleared. */
  fd: number;
  /** What losetup shows as the file; 63 bytes count. */
  name: string;
  sizeLimitBytes: number;
  blockSize: number;
  readOnly: boolean;
  directIo: boolean;
  warn: Warn;
}

/**
 * An attached loop device. The kernel clears it with its last close (AUTOCLEAR): ours, or that of a mount that stands on it.
 * Numbers are reused; `diskSequence` tells one attachment from the next.
 */
export class LoopDevice extends Descriptor {
  readonly index: number;
  /** `/dev/loopN` */
  readonly path: string;
  readonly diskSequence: number;
  /** Whether the kernel uses direct I/O: asked for, and possible on this host's file system. */
  readonly directIo: boolean;

  constructor(fd: number, index: number, state: LoopState) {
    super(fd);
    this.index = index;
    this.path = `/dev/loop${index}`;
    this.diskSequence = state.diskSequence;
    this.directIo = state.directIo;
  }
}

/**
 * Attaches a file as a free loop device, in one step and without ever touching one that somebody else took. Warns where
 * the host refused direct I/O. Throws ERR_LOOPBOX_NOT_SUPPORTED where the host has no loop devices.
 */
export async function attachLoop({ fd, warn, ...options }: AttachOptions): Promise<LoopDevice> {
  const attached = await native()
    .loopAttach({ ...options, backingFd: fd })
    .catch((error: unknown) => {
      throw explainAttach(error, options.name);
    });
  const state = readLoop(attached.index);
  if (!state) {
    await new Descriptor(attached.fd).close();
    throw new LoopboxError('ERR_LOOPBOX_NOT_SUPPORTED', `Cannot attach "${options.name}": /sys does not show /dev/loop${attached.index}`, {
      hint: 'mount -t sysfs sysfs /sys',
    });
  }
  if (options.directIo && !state.directIo) warn(`"${options.name}" is attached without direct I/O: the host's file system can't do it`);
  return new LoopDevice(attached.fd, attached.index, state);
}

function explainAttach(error: unknown, name: string): unknown {
  const action = `attach "${name}"`;
  if (isSystemError(error, 'ENOENT', 'ENXIO', 'ENODEV') && error.syscall === 'open') {
    return new LoopboxError('ERR_LOOPBOX_NOT_SUPPORTED', `Cannot ${action}: the host has no ${error.path ?? '/dev/loop-control'}`, {
      hint: 'modprobe loop',
      cause: error,
    });
  }
  if (isSystemError(error, 'ENOTTY')) {
    return new LoopboxError('ERR_LOOPBOX_NOT_SUPPORTED', `Cannot ${action}: the host's ${error.path ?? '/dev/loop-control'} is none`, {
      hint: 'mount -t devtmpfs devtmpfs /dev',
      cause: error,
    });
  }
  if (isSystemError(error, 'EBUSY')) {
    return new LoopboxError('ERR_LOOPBOX_IN_USE', `Cannot ${action}: no loop device stayed free for 30 seconds`, {
      hint: 'losetup -a',
      cause: error,
    });
  }
  return explain(error, action);
}
