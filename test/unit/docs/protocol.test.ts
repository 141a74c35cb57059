import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';

const checkout = join(import.meta.dirname, '../../..');
const document = readFileSync(join(checkout, 'docs/protocol.md'), 'utf8');
const faults = readFileSync(join(checkout, 'test/model/faults.py'), 'utf8');

describe('docs/protocol.md', () => {
  it('names each fault that its model is given, and no other', () => {
    const named = [...document.matchAll(/(?<!\*)\*([a-z0-9-]+)\*(?!\*)/g)].map(([, name]) => name);
    const planted = [...faults.matchAll(/^ {4}'([a-z0-9-]+)':/gm)].map(([, name]) => name);
    expect(planted.length).toBeGreaterThan(12);
    expect(new Set(named)).toEqual(new Set(planted));
  });
});
