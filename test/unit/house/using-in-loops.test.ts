import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import ts from 'typescript';
import { expect, it } from 'vitest';

const sources = join(import.meta.dirname, '../../../src');
const using: number = ts.NodeFlags.Using;

/** Where a `using` is in the `try` of a round of a loop, of the same function, that goes on after an error. */
function usingInRounds(path: string): string[] {
  const file = ts.createSourceFile(path, readFileSync(path, 'utf8'), ts.ScriptTarget.Latest, true);
  const found: string[] = [];
  const visit = (node: ts.Node, within: 'function' | 'loop' | 'try'): void => {
    if (within === 'try' && ts.isVariableDeclarationList(node) && (node.flags & using) === using) {
      found.push(`${path}:${file.getLineAndCharacterOfPosition(node.getStart()).line + 1}`);
    }
    if (ts.isFunctionLike(node)) within = 'function';
    else if (within === 'function' && ts.isIterationStatement(node, false)) within = 'loop';
    const isCaught = (child: ts.Node) => within === 'loop' && ts.isTryStatement(node) && node.catchClause && child === node.tryBlock;
    node.forEachChild((child) => visit(child, isCaught(child) ? 'try' : within));
  };
  visit(file, 'function');
  return found;
}

// esbuild keeps the error of such a block in a variable of the function: once one was caught, all later rounds of the loop end with it.
it('a loop that goes on after an error holds handles in a function of its own', () => {
  const files = readdirSync(sources, { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.ts'))
    .map((name) => join(sources, name));
  expect(files.length).toBeGreaterThan(100);
  expect(files.flatMap(usingInRounds)).toEqual([]);
});
