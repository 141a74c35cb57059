import { writeFile } from 'node:fs/promises';
import type { Command } from 'commander';
import { type DiskMap, mapContainer } from '../container/map';
import { explain, isSystemError } from '../errors';
import { wantsColours } from './colours';
import type { Context } from './context';
import { cellsPerLine, linesOfPicture, textPicture } from './map-picture';
import { cellsOfSvg, svgPicture } from './map-svg';
import { action, addVerb, printNames } from './verb';

interface MapFlags {
  svg?: string;
  force?: boolean;
}

interface Mapped {
  map: DiskMap;
  /** Where the picture was written to. */
  svg?: string;
}

export function register(program: Command, context: Context): void {
  addVerb(program, 'map <container[@snapshot]>', 'show which file each region of the disk comes from')
    .option('--svg <file>', 'write the picture to a file instead')
    .option('-f, --force', 'replace the file if it exists')
    .action(action(context, runMap, printMap));
}

async function runMap([name = '']: string[], { svg, force }: MapFlags, context: Context): Promise<Mapped> {
  const cells = svg === undefined ? perLine() * linesOfPicture : cellsOfSvg;
  const map = await mapContainer(context.store, name, { cells, signal: context.signal });
  if (svg === undefined) return { map };
  try {
    await writeFile(svg, svgPicture(map), { flag: force ? 'w' : 'wx' });
  } catch (error) {
    throw explain(error, `write "${svg}"`, { hint: isSystemError(error, 'EEXIST') ? 'add --force to replace it' : undefined });
  }
  return { map, svg };
}

/** 64 where no terminal says how wide it is. */
function perLine(): number {
  return process.stdout.columns ? cellsPerLine(process.stdout.columns) : 64;
}

function printMap({ map, svg }: Mapped, context: Context): void {
  if (context.format === 'json') {
    const { cells: _, cellBytes: __, ...sums } = map;
    return context.printJson(sums);
  }
  if (svg !== undefined) return context.print(svg);
  if (context.global.quiet)
    return printNames(
      map.files.map(({ name }) => name),
      context,
    );
  context.printPicture(textPicture(map, perLine(), wantsColours(process.stdout, process.env)));
}
