import type { Command } from 'commander';
import { exportContainer } from '../container/transfer';
import { LoopboxError } from '../errors';
import { formatSize } from '../units';
import type { Context } from './context';
import { reclaimBehind } from './merge-behind';
import { action, addVerb } from './verb';

interface ExportFlags {
  force?: boolean;
}

type Exported = Awaited<ReturnType<typeof exportContainer>>;

export function register(program: Command, context: Context): void {
  addVerb(program, 'export <container[@snapshot]> <file|->', 'copy a container or a snapshot into one file')
    .option('-f, --force', 'replace the file if it exists')
    .action(action(context, runExport, printExported));
}

async function runExport([name = '', file = '']: string[], flags: ExportFlags, context: Context): Promise<Exported> {
  if (file === '-' && process.stdout.isTTY) {
    throw new LoopboxError('ERR_LOOPBOX_USAGE', `Cannot export "${name}" to a terminal`, {
      hint: `loopbox export ${name} - | zstd > ${name}.zst`,
    });
  }
  context.streamsData = file === '-';
  const exported = await exportContainer(context.store, name, file === '-' ? process.stdout : file, {
    ...context.work,
    force: flags.force,
  });
  await reclaimBehind(context, name);
  return exported;
}

function printExported({ path, sizeBytes }: Exported, context: Context): void {
  if (path !== undefined) context.print(context.global.quiet ? path : `${path}: ${formatSize(sizeBytes)}`);
}
