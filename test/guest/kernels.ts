import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { shell } from '../execute';

/** A kernel that scripts/fetch-kernels has fetched. */
export interface GuestKernel {
  version: string;
  image: string;
  /** Modules to load, and `order`: their names, in the order in which they can be loaded. */
  modules: string;
}

const kernels = join(import.meta.dirname, '../../build/kernels');

export function guestKernel(version: string): GuestKernel {
  return { version, image: join(kernels, version, 'vmlinuz'), modules: join(kernels, version, 'modules') };
}

/** Why a kernel can't be booted here, if so. */
export async function whyNotBooted({ version, image }: GuestKernel): Promise<string | undefined> {
  if (existsSync(image))
    return (await shell('sh', '-c', 'command -v qemu-system-x86_64 || true')) ? undefined : 'there is no qemu-system-x86_64';
  const missing = join(kernels, version, 'missing');
  return existsSync(missing) ? readFileSync(missing, 'utf8').trim() : 'scripts/fetch-kernels has not been run';
}
