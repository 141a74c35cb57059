import { join } from 'node:path';
import { expect, it } from 'vitest';
import { execute } from '../execute';

const minute = 60_000;
const isSoak = Boolean(process.env.LOOPBOX_SOAK);
const timeoutMs = isSoak ? 120 * minute : 10 * minute;

it('The model of docs/protocol.md holds at every power cut and kill, and finds each fault', { timeout: timeoutMs + minute }, async () => {
  const model = join(import.meta.dirname, '../model');
  const result = await execute('python3', ['-B', model, ...(isSoak ? ['--soak'] : [])], { timeoutMs });
  expect(result.stdout + result.stderr).toMatch(/all holds; (\d+) of \1 faults caught\n$/);
  expect(result.code).toBe(0);
});
