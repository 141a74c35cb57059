import { type Command, Option } from 'commander';
import { reclaimContainer, type Settled, settleContainer } from '../container/settle';
import type { Context } from './context';
import { action, addVerb } from './verb';

export function register(program: Command, context: Context): void {
  addVerb(program, 'settle <name>', 'bring a stopped container to its plainest form: its present in one file')
    .addOption(new Option('--reclaim', 'what `snapshot rm` leaves to be done behind it').hideHelp())
    .action(action(context, runSettle, printSettled));
}

function runSettle([name = '']: string[], flags: { reclaim?: boolean }, context: Context): Promise<Settled> {
  return (flags.reclaim ? reclaimContainer : settleContainer)(context.store, name, context.work);
}

function printSettled(settled: Settled, context: Context): void {
  if (context.format === 'json') return context.printJson(settled);
  if (context.global.quiet) return context.print(settled.name);
  context.print(...settled.files);
  for (const { fileName, reason } of settled.pending) context.warn(`"${fileName}" is still to be merged: ${reason}`);
}
