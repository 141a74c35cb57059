import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { execute } from '../execute';

const minute = 60_000;
const isSoak = Boolean(process.env.LOOPBOX_SOAK);
const timeoutMs = (isSoak ? 120 : 10) * minute;
const document = readFileSync(join(import.meta.dirname, '../../docs/protocol.md'), 'utf8');

it('The model of docs/protocol.md holds at every power cut and kill, and finds each fault', { timeout: timeoutMs + minute }, async () => {
  const model = join(import.meta.dirname, '../model');
  const result = await execute('python3', ['-B', model, ...(isSoak ? ['--soak'] : [])], { timeoutMs });
  expect(result.stdout + result.stderr).toMatch(/all hold; (\d+) of \1 faults caught\n$/);
  expect(result.code).toBe(0);
  const counts = /^protocol: (.*);/m.exec(result.stdout)?.[1]?.match(/\d+/g) ?? [];
  if (!isSoak) for (const count of counts) expect(document).toContain(Number(count).toLocaleString('en'));
});
