import type { Command } from 'commander';
import { type Flattened, flattenContainer } from '../container/flatten';
import { formatSize } from '../units';
import type { Context } from './context';
import { action, addVerb } from './verb';

export function register(program: Command, context: Context): void {
  addVerb(program, 'flatten <name>', 'make a stopped container one image that needs no other file').action(
    action(context, ([name = ''], _, context) => flattenContainer(context.store, name, context.work), printFlattened),
  );
}

function printFlattened(flattened: Flattened, context: Context): void {
  if (context.format === 'json') return context.printJson(flattened);
  context.print(context.global.quiet ? flattened.name : `${flattened.name}: ${formatSize(flattened.sizeBytes)}, whole`);
}
