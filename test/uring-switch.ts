import { accessSync, constants, writeFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { it } from 'vitest';
import { tryLock } from '../src/flock';
import { type Transport, uringSwitch } from '../src/loop/transports';
import { probe } from './capability';

const parameter = '/sys/module/fuse/parameters/enable_uring';

/** The transports that this host has; of others it is said that their tests are skipped. */
export const transportsHere: Transport[] = (await probe('fuse-uring', uringIsMissing)) === it ? ['fuse', 'fuse-uring'] : ['fuse'];
export const hasUring = transportsHere.includes('fuse-uring');

function uringIsMissing(): string | undefined {
  if (uringSwitch() === undefined) return 'the kernel has no FUSE over io_uring';
  accessSync(parameter, constants.W_OK);
  return undefined;
}

/** Does something while the kernel's switch, which is the whole host's, stands so; then it stands as before. */
export async function withUringSwitch<T>(value: 'Y' | 'N', body: () => Promise<T>): Promise<T> {
  // Other tests of this host wait meanwhile.
  await using file = await open(parameter);
  while (!tryLock(file.fd, 'exclusive')) await sleep(20);
  const before = uringSwitch();
  writeFileSync(parameter, value);
  try {
    return await body();
  } finally {
    writeFileSync(parameter, before ?? 'N');
  }
}
