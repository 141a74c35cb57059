import type { DiskMap, MapCell } from '../container/map';
import { printable } from '../printable';
import { formatSize } from '../units';
import { coloured, colourOf } from './colours';

/** How many cells a line of text has: a power of two, so that lines begin at round places. */
export function cellsPerLine(columns: number): number {
  return [128, 64, 32].find((cells) => cells + labelWidth <= columns) ?? 16;
}

export const linesOfPicture = 16;
/** `1008 MiB  ` */
const labelWidth = 11;
const emptyMark = '·';
const fewMark = '░';
const someMark = '▒';
const fullMark = '█';

/** The picture in blocks, each line with the place that it begins at, and a legend. With colours each file has one, else a letter. */
export function textPicture(map: DiskMap, perLine: number, withColours: boolean): string[] {
  const lines: string[] = [];
  const mark = withColours ? blockOf : letterOf;
  for (let start = 0; start < map.cells.length; start += perLine) {
    const cells = map.cells.slice(start, start + perLine);
    lines.push(`${formatSize(start * map.cellBytes).padStart(labelWidth - 2)}  ${cells.map((cell) => mark(cell, map.cellBytes)).join('')}`);
  }
  const unit = withColours ? 'a block is' : 'a letter is';
  const size = `${formatSize(map.cellBytes)}${withColours ? '' : ', a capital one is full'}`;
  return [`${printable(map.name)}: ${formatSize(map.sizeBytes)}, ${unit} ${size}`, '', ...lines, '', ...legend(map, withColours)];
}

function blockOf({ file, bytes }: MapCell, cellBytes: number): string {
  if (file === null) return emptyMark;
  const share = bytes / cellBytes;
  return coloured(share > 0.6 ? fullMark : share > 0.2 ? someMark : fewMark, colourOf(file));
}

const letters = 'abcdefghijklmnopqrstuvwxyz';

/** Capital where the cell is rather full. More files than letters share the last one. */
function letterOf({ file, bytes }: MapCell, cellBytes: number): string {
  if (file === null) return emptyMark;
  const letter = letters[Math.min(file, letters.length - 1)] ?? '';
  return bytes > 0.6 * cellBytes ? letter.toUpperCase() : letter;
}

function legend({ files, emptyBytes, sizeBytes }: DiskMap, withColours: boolean): string[] {
  const entries = [
    ...files.map(({ name, bytes }, index) => ({
      mark: withColours ? coloured(fullMark, colourOf(index)) : (letters[Math.min(index, letters.length - 1)] ?? ''),
      name: printable(name),
      bytes,
    })),
    { mark: emptyMark, name: 'empty', bytes: emptyBytes },
  ];
  const width = Math.max(...entries.map(({ name }) => name.length));
  return entries.map(
    ({ mark, name, bytes }) => `${mark} ${name.padEnd(width)}  ${formatSize(bytes).padStart(8)}  ${shareOf(bytes, sizeBytes).padStart(5)}`,
  );
}

/** `12 %`; what is there is never shown as nothing, what is not all never as all. */
export function shareOf(bytes: number, sizeBytes: number): string {
  const percent = (bytes / sizeBytes) * 100;
  if (bytes > 0 && percent < 1) return '<1 %';
  if (bytes < sizeBytes && percent > 99) return '>99 %';
  return `${Math.round(percent)} %`;
}
