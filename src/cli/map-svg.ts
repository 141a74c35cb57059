import type { DiskMap } from '../container/map';
import { formatSize } from '../units';
import { colourOf } from './colours';
import { shareOf } from './map-picture';

const cellsPerRow = 64;
/** Of a cell's side, in the picture's units; a gap of one is left between two. */
const side = 12;
const margin = 24;
const lineHeight = 22;
/** Cells of a picture: 64 rows. */
export const cellsOfSvg = cellsPerRow * 64;

/** The picture as an SVG file that needs nothing else: it follows light and dark, and says what a cell is where the pointer rests. */
export function svgPicture(map: DiskMap): string {
  const rows = Math.ceil(map.cells.length / cellsPerRow);
  const top = margin + 2 * lineHeight;
  const legendTop = top + rows * side + margin;
  const width = 2 * margin + cellsPerRow * side;
  const height = legendTop + (map.files.length + 1) * lineHeight + margin / 2;
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" role="img">`,
    `<title>${escaped(map.name)}</title>`,
    '<style>',
    'text { font: 14px system-ui, sans-serif; fill: #1f2328 } .name { font-size: 18px; font-weight: 600 } .number { text-anchor: end }',
    '.soft { fill: #656d76 } .paper { fill: #ffffff } .empty { fill: #eceef1 }',
    '@media (prefers-color-scheme: dark) {',
    'text { fill: #e6edf3 } .soft { fill: #8b949e } .paper { fill: #0d1117 } .empty { fill: #21262d }',
    '}',
    '</style>',
    `<rect width="${width}" height="${height}" class="paper"/>`,
    `<text class="name" x="${margin}" y="${margin + 8}">${escaped(map.name)}</text>`,
    `<text class="soft" x="${margin}" y="${margin + 8 + lineHeight}">${formatSize(map.sizeBytes)}, a block is ${formatSize(map.cellBytes)}</text>`,
    ...map.cells.map((cell, index) => {
      const x = margin + (index % cellsPerRow) * side;
      const y = top + Math.floor(index / cellsPerRow) * side;
      const file = cell.file === null ? undefined : map.files[cell.file];
      // What is nearly empty is still seen.
      const opacity = 0.25 + 0.75 * Math.min(1, cell.bytes / map.cellBytes);
      const paint = cell.file === null ? 'class="empty"' : `fill="${colourOf(cell.file)}" fill-opacity="${opacity.toFixed(2)}"`;
      const words = `${formatSize(index * map.cellBytes)}: ${file ? `${escaped(file.name)}, ${formatSize(cell.bytes)}` : 'empty'}`;
      return `<rect x="${x}" y="${y}" width="${side - 1}" height="${side - 1}" rx="2" ${paint}><title>${words}</title></rect>`;
    }),
    ...[...map.files, { name: 'empty', bytes: map.emptyBytes }].map(({ name, bytes }, index) => {
      const y = legendTop + index * lineHeight;
      const paint = index < map.files.length ? `fill="${colourOf(index)}"` : 'class="empty"';
      const right = width - margin;
      return [
        `<rect x="${margin}" y="${y}" width="${side}" height="${side}" rx="2" ${paint}/>`,
        `<text x="${margin + 22}" y="${y + 11}">${escaped(name)}</text>`,
        `<text class="number" x="${right - 70}" y="${y + 11}">${formatSize(bytes)}</text>`,
        `<text class="number soft" x="${right}" y="${y + 11}">${shareOf(bytes, map.sizeBytes).replace('<', '&lt;').replace('>', '&gt;')}</text>`,
      ].join('');
    }),
    '</svg>',
    '',
  ].join('\n');
}

/** Text for XML: names are strangers'. What XML can't carry at all is replaced. */
function escaped(text: string): string {
  const marks: Record<string, string> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' };
  return text.replace(/[&<>"]/g, (mark) => marks[mark] ?? mark).replace(/[\p{Cc}\p{Cs}\ufffe\uffff]/gu, '\ufffd');
}
