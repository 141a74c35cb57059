import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { exitCodes } from '../../../src/errors';

const document = readFileSync(join(import.meta.dirname, '../../../docs/errors.md'), 'utf8');

describe('docs/errors.md', () => {
  it('lists every error code with its exit code, in the order of src/errors.ts', () => {
    const rows = [...document.matchAll(/^\| `(ERR_LOOPBOX_\w+)` \| (\d+) \| (.+) \| (.+) \|$/gm)];
    expect(rows.map(([, code, exitCode]) => [code, Number(exitCode)])).toEqual(Object.entries(exitCodes));
  });

  it('explains every exit code once, and no other', () => {
    const listed = [...document.matchAll(/^\| (\d+) \| /gm)].map(([, code]) => Number(code));
    // 125 stands for our failures where the exit code is a command's own.
    const wanted = new Set([0, 125, ...Object.values(exitCodes)]);
    expect(listed).toEqual([...wanted].sort((a, b) => a - b));
  });
});
