import type { Command } from 'commander';
import { renameContainer } from '../container/rename';
import type { Context } from './context';
import { action, addVerb } from './verb';

export function register(program: Command, context: Context): void {
  addVerb(program, 'rename <name> <new-name>', 'rename a stopped container').action(
    action(context, ([from = '', to = ''], _, context) => renameContainer(context.store, from, to)),
  );
}
