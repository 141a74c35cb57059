import type { Command } from 'commander';
import { killContainer } from '../container/stop';
import type { Context } from './context';
import { action, addVerb, forEachName, printNames } from './verb';

interface KillFlags {
  signal: string;
}

export function register(program: Command, context: Context): void {
  addVerb(program, 'kill <container...>', "send a signal to containers' commands")
    .option('-s, --signal <signal>', 'name or number', 'KILL')
    .action(action(context, runKill, printNames));
}

function runKill(names: string[], flags: KillFlags, context: Context): Promise<string[]> {
  return forEachName(names, context, (name) => killContainer(context.store, name, flags.signal));
}
