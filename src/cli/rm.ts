import { type Command, Option } from 'commander';
import { removeAfterEnd, removeContainer } from '../container/remove';
import type { Context } from './context';
import { action, addVerb, forEachName, printNames } from './verb';

interface RmFlags {
  force?: boolean;
  snapshots?: boolean;
  afterEnd?: boolean;
}

export function register(program: Command, context: Context): void {
  addVerb(program, 'rm <name...>', 'remove containers and their files')
    .option('-f, --force', 'kill those that run')
    .option('--snapshots', 'remove their snapshots, too')
    .addOption(new Option('--after-end', 'what the monitor of `run --rm` calls').hideHelp())
    .action(action(context, runRm, printNames));
}

function runRm(names: string[], flags: RmFlags, context: Context): Promise<string[]> {
  return forEachName(names, context, (name) =>
    flags.afterEnd ? removeAfterEnd(context.store, name) : removeContainer(context.store, name, flags),
  );
}
