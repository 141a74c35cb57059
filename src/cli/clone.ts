import type { Command } from 'commander';
import { type Cloned, cloneContainer } from '../container/clone';
import { formatSize } from '../units';
import type { Context } from './context';
import { reclaimBehind } from './merge-behind';
import { action, addVerb } from './verb';

interface CloneFlags {
  linked?: boolean;
  keepIdentity?: boolean;
}

export function register(program: Command, context: Context): void {
  addVerb(program, 'clone <container[@snapshot]> <name>', 'make a new container of a container or snapshot')
    .option('--linked', 'share its files instead of copying them')
    .option('--keep-identity', 'keep machine-id, host name and file-system uuid')
    .action(action(context, runClone, printCloned));
}

async function runClone([from = '', name = '']: string[], flags: CloneFlags, context: Context): Promise<Cloned> {
  const cloned = await cloneContainer(context.store, from, name, {
    ...context.work,
    warn: context.warn,
    linked: flags.linked ?? false,
    keepIdentity: flags.keepIdentity ?? false,
  });
  await reclaimBehind(context, from);
  return cloned;
}

function printCloned(cloned: Cloned, context: Context): void {
  if (context.format === 'json') return context.printJson(cloned);
  if (context.global.quiet) return context.print(cloned.name);
  const how = { reflink: 'sharing blocks with', copy: 'copied from', linked: 'linked to' }[cloned.how];
  context.print(`${cloned.name}: ${formatSize(cloned.sizeBytes)}, ${how} ${cloned.from}; attach: ${cloned.attach}`);
}
