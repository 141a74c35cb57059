import { isatty } from 'node:tty';
import type { Command } from 'commander';
import type { Context } from './context';
import { execWith } from './exec';
import { action, addExecFlags, addVerb, type ExecFlags } from './verb';

export function register(program: Command, context: Context): void {
  addExecFlags(addVerb(program, 'enter <container>', 'open a shell in a running container').passThroughOptions()).action(
    action(context, runEnter),
  );
}

async function runEnter([name = '']: string[], flags: ExecFlags, context: Context): Promise<void> {
  await execWith(name, [], { ...flags, interactive: true, tty: isatty(0) && isatty(1) }, context);
}
