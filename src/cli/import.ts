import type { Command } from 'commander';
import { type Imported, importContainer } from '../container/transfer';
import { formatSize } from '../units';
import type { Context } from './context';
import { action, addVerb } from './verb';

interface ImportFlags {
  rescue?: boolean;
}

export function register(program: Command, context: Context): void {
  addVerb(program, 'import <file> [name]', 'copy a raw ext4 image file into the store as a container')
    .option('--rescue', 'take the file system with a default config where its manifest is lost')
    .action(action(context, runImport, printImported));
}

function runImport([file = '', name]: string[], flags: ImportFlags, context: Context): Promise<Imported> {
  return importContainer(context.store, file, { ...context.work, name, rescue: flags.rescue });
}

function printImported({ name, sizeBytes }: Imported, context: Context): void {
  context.print(context.global.quiet ? name : `${name}: ${formatSize(sizeBytes)}`);
}
