import { printable } from '../printable';

/** Lines of columns under headings, two spaces apart; a column whose cells are all numbers or sizes is right-aligned. */
export function table(headings: string[], rows: string[][]): string[] {
  // Made printable before they are measured.
  const all = [headings, ...rows.map((row) => row.map(printable))];
  const widths = headings.map((_, column) => Math.max(...all.map((row) => (row[column] ?? '').length)));
  const isRight = headings.map(
    (_, column) => rows.length > 0 && rows.every((row) => /^(-|[\d.]+( [KMGTP]?i?B)?)$/.test(row[column] ?? '')),
  );
  return all.map((row) =>
    row
      .map((cell, column) => (isRight[column] ? cell.padStart(widths[column] ?? 0) : cell.padEnd(widths[column] ?? 0)))
      .join('  ')
      .trimEnd(),
  );
}

/** Lines of `Key:  value` with the values in one column; those without a value are left out. */
export function keyValues(pairs: [string, string | null | undefined][]): string[] {
  const present = pairs.filter(([, value]) => value);
  const width = Math.max(...present.map(([key]) => key.length)) + 1;
  return present.map(([key, value]) => `${`${key}:`.padEnd(width)} ${value}`);
}
