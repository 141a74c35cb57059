import { type Command, Option } from 'commander';
import { mergeUnasked } from '../container/merge-unasked';
import { type Settled, settleContainer } from '../container/settle';
import type { Context } from './context';
import { action, addVerb } from './verb';

export function register(program: Command, context: Context): void {
  addVerb(program, 'settle <name>', 'bring a stopped container to its plainest form: its present in one file')
    .addOption(new Option('--unasked', 'what other commands leave to be done behind them').hideHelp())
    .action(action(context, runSettle, printSettled));
}

async function runSettle([name = '']: string[], flags: { unasked?: boolean }, context: Context): Promise<Settled | undefined> {
  if (!flags.unasked) return await settleContainer(context.store, name, context.work);
  await mergeUnasked(context.store, name, context.work);
  return undefined;
}

function printSettled(settled: Settled | undefined, context: Context): void {
  if (!settled) return;
  if (context.format === 'json') return context.printJson(settled);
  if (context.global.quiet) return context.print(settled.name);
  context.print(...settled.files);
  for (const { fileName, reason } of settled.pending) context.warn(`"${fileName}" is still to be merged: ${reason}`);
}
