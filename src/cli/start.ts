import type { Command } from 'commander';
import { startContainer } from '../container/start';
import type { Context } from './context';
import { action, addVerb, forEachName, printNames } from './verb';

export function register(program: Command, context: Context): void {
  addVerb(program, 'start <container...>', 'start containers, detached').action(action(context, runStart, printNames));
}

function runStart(names: string[], _options: object, context: Context): Promise<string[]> {
  return forEachName(names, context, async (name) => {
    await startContainer(context.store, name, { signal: context.signal, warn: context.warn });
  });
}
