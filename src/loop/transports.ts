import { existsSync, readFileSync } from 'node:fs';
import { isSystemError, LoopboxError } from '../errors';

/** What brings a loop device's requests to a storage server: /dev/fuse by itself, or through io_uring. */
export type Transport = 'fuse' | 'fuse-uring';
export const transports: readonly Transport[] = ['fuse', 'fuse-uring'];
export const defaultTransport: Transport = 'fuse';

const fuseModule = '/sys/module/fuse';
const parameter = `${fuseModule}/parameters/enable_uring`;

/** The value of the kernel's switch: `Y` or `N`; undefined where there is none. */
export function uringSwitch(): string | undefined {
  try {
    return readFileSync(parameter, 'utf8').trim();
  } catch (error) {
    if (isSystemError(error, 'ENOENT')) return undefined;
    throw error;
  }
}

/** ERR_LOOPBOX_NOT_SUPPORTED where the kernel does not offer the transport now. */
export function requireTransport(transport: Transport): void {
  if (transport === 'fuse') return;
  const state = uringSwitch();
  if (state === 'Y') return;
  const reason =
    state !== undefined ? 'switched off in the kernel' : existsSync(fuseModule) ? 'not in this kernel' : 'in a module that is not loaded';
  const hint = state !== undefined ? `echo Y > ${parameter}` : existsSync(fuseModule) ? '--transport fuse' : 'modprobe fuse';
  throw new LoopboxError('ERR_LOOPBOX_NOT_SUPPORTED', `Cannot use the transport "${transport}": FUSE over io_uring is ${reason}`, { hint });
}
