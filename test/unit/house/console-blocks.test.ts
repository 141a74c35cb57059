import { describe, expect, it } from 'vitest';
import { outputMatches, parseConsoleBlocks } from '../../console-blocks';

describe('parseConsoleBlocks', () => {
  it('reads commands with their output from marked blocks only', () => {
    const markdown = [
      '# Title',
      '```console',
      '# not run',
      '```',
      'text',
      '```console test',
      '# loopbox ls -q',
      'web',
      '',
      'db',
      '# loopbox create \\',
      '    web',
      '# true',
      '```',
      '# Heading',
      '```console test',
      '# loopbox info',
      '…',
      '```',
    ].join('\n');
    expect(parseConsoleBlocks(markdown)).toEqual([
      { line: 7, command: 'loopbox ls -q', expected: ['web', '', 'db'] },
      { line: 11, command: 'loopbox create \\\n    web', expected: [] },
      { line: 13, command: 'true', expected: [] },
      { line: 17, command: 'loopbox info', expected: ['…'] },
    ]);
  });

  it('refuses output before the first command', () => {
    expect(() => parseConsoleBlocks('```console test\nweb\n```')).toThrow('Line 2: output before the first command: web');
  });
});

describe('outputMatches', () => {
  it.each([
    { name: 'equal lines', expected: ['a', 'b'], actual: 'a\nb\n', matches: true },
    { name: 'no output', expected: [], actual: '', matches: true },
    { name: 'output where none is shown', expected: [], actual: 'a\n', matches: false },
    { name: 'a line too many', expected: ['a'], actual: 'a\nb\n', matches: false },
    { name: 'a line too few', expected: ['a', 'b'], actual: 'a\n', matches: false },
    { name: 'the mark within a line', expected: ['pid … (web)'], actual: 'pid 123 (web)\n', matches: true },
    { name: 'the mark within a line, not across lines', expected: ['a…c'], actual: 'a\nc\n', matches: false },
    { name: 'the mark alone for several lines', expected: ['a', '…', 'd'], actual: 'a\nb\nc\nd\n', matches: true },
    { name: 'the mark alone for no line', expected: ['a', '…'], actual: 'a\n', matches: true },
    { name: 'columns of another width', expected: ['NAME   STATE'], actual: 'NAME STATE  \n', matches: true },
    { name: 'special characters as they are', expected: ['a.c (1)'], actual: 'abc (1)\n', matches: false },
  ])('$name: $matches', ({ expected, actual, matches }) => {
    expect(outputMatches(expected, actual)).toBe(matches);
  });
});
