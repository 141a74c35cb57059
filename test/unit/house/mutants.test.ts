import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, expect, it } from 'vitest';

const checkout = join(import.meta.dirname, '../../..');
const names = readdirSync(join(checkout, 'test/mutants')).map((file) => file.replace(/\.patch$/, ''));

function read(path: string): string {
  return readFileSync(join(checkout, path), 'utf8');
}

/** A test, and what it imports: titles of cases may be there. */
function withImports(path: string): string {
  const text = read(path);
  const imported = [...text.matchAll(/from '(\.[^']+)'/g)].map(([, name = '']) => `${join(dirname(path), name)}.ts`);
  return [text, ...imported.map(read)].join('\n');
}

function valuesOf(name: string, key: string): string[] {
  return [...read(`test/mutants/${name}.patch`).matchAll(new RegExp(`^${key}: (.*)$`, 'gm'))].map(([, value = '']) => value);
}

describe('the planted faults', () => {
  it.each(names)('%s can be planted into the source as it is, and names tests that are there', (name) => {
    const { stderr } = spawnSync('git', ['apply', '--check', `test/mutants/${name}.patch`], { cwd: checkout, encoding: 'utf8' });
    expect(stderr).toBe('');
    for (const test of valuesOf(name, 'test')) {
      const [file = '', title = ''] = test.split(' > ');
      if (!file.startsWith('ctest ')) expect(withImports(file)).toContain(title.replace(/:$/, ''));
    }
  });

  it('are told of in docs/testing.md, in the same words', () => {
    const rows = read('docs/testing.md').matchAll(/^\| `([a-z0-9-]+)` \| (.*?) \| (.*?) \|$/gm);
    const told = [...rows].map(([, name, fault, tests]) => [name, fault, tests]);
    const planted = names.map((name) => [name, valuesOf(name, 'fault')[0], valuesOf(name, 'test').join('; ')]);
    expect(new Set(told)).toEqual(new Set(planted));
  });
});
