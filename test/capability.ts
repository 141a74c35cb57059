import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { it, type TestAPI } from 'vitest';

/**
 * `it` for tests that need something not every host has. `check` tells why it is missing (or throws); then the tests are
 * skipped and the reason is printed. With CI=true only what test/allowed-skips.txt lists is skipped; anything else fails.
 *
 *     const itOnXfs = await probe('xfs', () => canMountXfs());
 *     itOnXfs('shares blocks', async () => { … });
 */
export async function probe(name: string, check: () => Promise<string | undefined> | string | undefined): Promise<TestAPI> {
  const reason = await reasonOf(check);
  if (reason === undefined) return it;
  if (process.env.CI === 'true' && !allowedSkips().includes(name)) {
    throw new Error(`This host lacks "${name}" (${reason}), and test/allowed-skips.txt does not list it`);
  }
  console.warn(`Skipped, for want of "${name}": ${reason}`);
  return it.skip as TestAPI;
}

async function reasonOf(check: () => Promise<string | undefined> | string | undefined): Promise<string | undefined> {
  try {
    return await check();
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}

/** The names in a list of one name a line, without comments. */
function parseAllowedSkips(text: string): string[] {
  return text
    .split('\n')
    .map((line) => line.replace(/#.*/, '').trim())
    .filter(Boolean);
}

function allowedSkips(): string[] {
  return parseAllowedSkips(readFileSync(join(import.meta.dirname, 'allowed-skips.txt'), 'utf8'));
}
