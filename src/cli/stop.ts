import type { Command } from 'commander';
import { stopContainer } from '../container/stop';
import type { Context } from './context';
import { settleBehind } from './merge-behind';
import { action, addVerb, forEachName, parseSeconds, printNames } from './verb';

interface StopFlags {
  time?: string;
  dropHeld?: boolean;
}

export function register(program: Command, context: Context): void {
  addVerb(program, 'stop <container...>', 'stop containers: their stop signal, then KILL')
    .option('-t, --time <seconds>', 'seconds between the two', '10')
    .option('--drop-held', 'give up writes that wait for space on the host')
    .action(action(context, runStop, printNames));
}

async function runStop(names: string[], flags: StopFlags, context: Context): Promise<string[]> {
  const timeoutSeconds = parseSeconds(flags.time);
  const { dropHeld } = flags;
  const stop = (name: string) => stopContainer(context.store, name, { timeoutSeconds, signal: context.signal, dropHeld });
  const stopped = await forEachName(names, context, stop);
  await settleBehind(context, stopped);
  return stopped;
}
