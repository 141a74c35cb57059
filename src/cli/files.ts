import type { Command } from 'commander';
import { filesOf } from '../container/files';
import type { Context } from './context';
import { action, addVerb, printNames } from './verb';

export function register(program: Command, context: Context): void {
  addVerb(program, 'files <container[@snapshot]>', 'print the paths of the files that make up a state').action(
    action(context, ([name = ''], _, context) => filesOf(context.store, name, context.warn), printFiles),
  );
}

function printFiles(paths: string[], context: Context): void {
  if (context.format === 'json') return context.printJson(paths);
  printNames(paths, context);
}
