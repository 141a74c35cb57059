import type { Command } from 'commander';
import { type CheckReport, checkContainer } from '../container/check';
import type { RepairedContainer } from '../container/repair';
import { exitCodes } from '../errors';
import type { Context } from './context';
import { reclaimBehind } from './merge-behind';
import { table } from './table';
import { action, addVerb, printNames } from './verb';

interface CheckFlags {
  repair?: boolean;
}

export function register(program: Command, context: Context): void {
  addVerb(program, 'check <container[@snapshot]>', 'check files, what they stand on, and the file system')
    .option('--repair', 'repair the file system; what that loses is told, and what was there is kept')
    .action(action(context, runCheck, printReport));
}

async function runCheck([name = '']: string[], flags: CheckFlags, context: Context): Promise<CheckReport> {
  const report = await checkContainer(context.store, name, { ...context.work, repair: flags.repair });
  await reclaimBehind(context, name);
  return report;
}

function printReport(report: CheckReport, context: Context): void {
  if (!report.sound) context.exitCode = exitCodes.ERR_LOOPBOX_CORRUPT;
  if (context.format === 'json') return context.printJson(report);
  const damaged = report.files.filter(({ problems }) => problems.length > 0);
  if (context.global.quiet) {
    if (damaged.length > 0)
      printNames(
        damaged.map(({ name }) => name),
        context,
      );
    return;
  }
  const rows = report.files.map(({ name, kind, problems }) => [name, kind ?? '-', problems.join('; ') || 'ok']);
  context.print(
    ...table(['FILE', 'KIND', 'STATE'], rows),
    '',
    ...(report.repair ? repairLines(report.repair) : fileSystemLines(report.fileSystem)),
  );
}

function fileSystemLines(problems: CheckReport['fileSystem']): string[] {
  if (!problems) return ['file system: not looked at'];
  return problems.length > 0 ? ['file system: damaged', ...indented(problems)] : ['file system: clean'];
}

function repairLines({ repaired, dropped, lost, kept }: RepairedContainer): string[] {
  const lines = ['file system: repaired', ...indented(repaired)];
  if (kept === null) return [...lines, 'nothing was lost'];
  const files = lost.map(({ path, what, to }) => `${path}: ${to === undefined ? what : `${what} to ${to}`}`);
  return [...lines, 'what may be lost:', ...indented([...dropped, ...files]), `what was there is kept as ${kept}`];
}

function indented(lines: string[]): string[] {
  return lines.map((line) => `  ${line}`);
}
