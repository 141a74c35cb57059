import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, expect, it } from 'vitest';

const checkout = join(import.meta.dirname, '../../..');
const documents = ['.', 'docs'].flatMap((directory) =>
  readdirSync(join(checkout, directory))
    .filter((name) => name.endsWith('.md'))
    .map((name) => join(directory, name)),
);

describe.each(documents)('%s', (document) => {
  const text = readFileSync(join(checkout, document), 'utf8');

  it('links to what there is', () => {
    const links = [...text.matchAll(/\]\((?!https?:)([^)#]+)(?:#[^)]*)?\)/g)].map(([, link = '']) => link);
    expect(links.filter((link) => !existsSync(join(checkout, dirname(document), link)))).toEqual([]);
  });

  it('names source files that there are', () => {
    const paths = [...text.matchAll(/`([\w.-]+\/[a-z0-9./-]+\.(?:ts|cc|h|mjs|mts|txt))`/g)].map(([, path = '']) => path);
    expect(paths.filter((path) => !['.', 'src'].some((directory) => existsSync(join(checkout, directory, path))))).toEqual([]);
  });
});
