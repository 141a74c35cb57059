import type { Command } from 'commander';
import { exitCodeOf } from '../container/run';
import { waitForContainer } from '../container/stop';
import type { Context } from './context';
import { settleBehind } from './merge-behind';
import { action, addVerb } from './verb';

export function register(program: Command, context: Context): void {
  addVerb(program, 'wait <container>', 'wait for the end of a container and print its exit code').action(
    action(context, runWait, (exitCode) => (context.format === 'json' ? context.printJson({ exitCode }) : context.print(String(exitCode)))),
  );
}

async function runWait([name = '']: string[], _options: object, context: Context): Promise<number> {
  const last = await waitForContainer(context.store, name, context.signal);
  await settleBehind(context, [name]);
  return last ? exitCodeOf(name, last) : 0;
}
