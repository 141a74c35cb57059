import { readFileSync } from 'node:fs';
import { join } from 'node:path';

/** Where this package lies: `bin/`, `build/` and `package.json` are below it, from `src/` (tests) and `dist/` alike. */
export const packageDirectory = join(__dirname, '..');

export function packageVersion(): string {
  return (JSON.parse(readFileSync(join(packageDirectory, 'package.json'), 'utf8')) as { version: string }).version;
}
