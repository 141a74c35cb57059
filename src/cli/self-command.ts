import { join } from 'node:path';
import { packageDirectory } from '../package';
import type { Context } from './context';

/** The argv that runs this loopbox with the same store, from any directory and without the caller's environment. */
export function selfCommand(context: Context): string[] {
  const { root, runRoot, runtime } = context.store;
  return [process.execPath, join(packageDirectory, 'bin', 'loopbox'), '--root', root, '--run-root', runRoot, '--runtime', runtime];
}
