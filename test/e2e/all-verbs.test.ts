import { describe, expect, it } from 'vitest';
import { TestStore, temporaryDirectory, xfsDirectory } from '../fixtures';
import { scriptOfAllVerbs } from './script-of-all-verbs';

const minute = 60_000;

const places: [string, 'direct' | 'stack', () => Promise<string>][] = [
  ['ext4, attached stack', 'stack', temporaryDirectory],
  ['XFS, attached direct', 'direct', xfsDirectory],
  ['XFS, attached stack', 'stack', xfsDirectory],
];

describe('one script of all verbs', () => {
  const transcripts: string[][] = [];

  it.each(places)(
    'on %s: after each step the names of all files tell the truth',
    async (_, attach, directory) => {
      const store = await TestStore.create(await directory(), await temporaryDirectory());
      transcripts.push(await scriptOfAllVerbs(store, attach, await temporaryDirectory()));
    },
    10 * minute,
  );

  it('prints the same on all of them', () => {
    const [first, ...others] = transcripts;
    expect(others).toHaveLength(places.length - 1);
    for (const other of others) expect(other).toEqual(first);
  });
});
