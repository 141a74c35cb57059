import type { Command } from 'commander';
import { restartContainer } from '../container/stop';
import type { Context } from './context';
import { action, addVerb, forEachName, parseSeconds, printNames } from './verb';

interface RestartFlags {
  time?: string;
}

export function register(program: Command, context: Context): void {
  addVerb(program, 'restart <container...>', 'stop containers and start them again')
    .option('-t, --time <seconds>', 'seconds between the stop signal and KILL', '10')
    .action(action(context, runRestart, printNames));
}

function runRestart(names: string[], flags: RestartFlags, context: Context): Promise<string[]> {
  const options = { timeoutSeconds: parseSeconds(flags.time), signal: context.signal, warn: context.warn };
  return forEachName(names, context, (name) => restartContainer(context.store, name, options));
}
