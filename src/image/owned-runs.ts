/**
 * Runs of blocks as starts and ends in turn, ascending and apart: `[2, 5, 9, 10]` is blocks 2 to 4 and block 9. The maps of big disks
 * hold millions of them.
 */
export type Runs = number[];

/** The runs of set bits among the first `blocks` of a presence map, whose first bit is block `first`. */
export function ownedRuns(map: Uint8Array, first: number, blocks: number): Runs {
  const runs: Runs = [];
  let start = -1;
  for (let index = 0; index * 8 < blocks; index++) {
    const byte = map[index] ?? 0;
    // Most bytes are all or nothing, and go on with what was.
    if (byte === (start < 0 ? 0 : 0xff) && index * 8 + 8 <= blocks) continue;
    for (let bit = 0; bit < 8 && index * 8 + bit < blocks; bit++) {
      const isOwned = (byte >> bit) & 1;
      const block = first + index * 8 + bit;
      if (isOwned && start < 0) start = block;
      if (!isOwned && start >= 0) {
        runs.push(start, block);
        start = -1;
      }
    }
  }
  if (start >= 0) runs.push(start, first + blocks);
  return runs;
}

/** What is in both. */
export function intersectRuns(one: Runs, other: Runs): Runs {
  const result: Runs = [];
  for (let i = 0, j = 0; i < one.length && j < other.length; ) {
    const start = Math.max(one[i] as number, other[j] as number);
    const end = Math.min(one[i + 1] as number, other[j + 1] as number);
    if (start < end) result.push(start, end);
    if ((one[i + 1] as number) < (other[j + 1] as number)) i += 2;
    else j += 2;
  }
  return result;
}

/** What is in `from`, but not in `taken`. */
export function subtractRuns(from: Runs, taken: Runs): Runs {
  const result: Runs = [];
  let j = 0;
  for (let i = 0; i < from.length; i += 2) {
    let start = from[i] as number;
    const end = from[i + 1] as number;
    while (j < taken.length && (taken[j + 1] as number) <= start) j += 2;
    for (let k = j; k < taken.length && (taken[k] as number) < end; k += 2) {
      if ((taken[k] as number) > start) result.push(start, taken[k] as number);
      start = taken[k + 1] as number;
    }
    if (start < end) result.push(start, end);
  }
  return result;
}
