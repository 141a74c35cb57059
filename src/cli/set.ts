import type { Command } from 'commander';
import { parseConfigInput } from '../container/config-input';
import { type SetResult, setConfig } from '../container/set';
import { LoopboxError } from '../errors';
import type { Context } from './context';
import { action, addAttachFlag, addConfigFlags, addSnapshotConfigFlags, addVerb, type ConfigFlags, configInput } from './verb';

export function register(program: Command, context: Context): void {
  const verb = addConfigFlags(addVerb(program, 'set <container>', "change a container's config; limits also while it runs"));
  addSnapshotConfigFlags(addAttachFlag(verb))
    .usage('[options] <container> [-- CMD…]')
    .action(action(context, runSet, printSet));
}

async function runSet([name = '']: string[], flags: ConfigFlags, context: Context): Promise<SetResult> {
  const input = configInput(flags, context.command);
  if (Object.values(input).every((value) => value === undefined)) {
    throw new LoopboxError('ERR_LOOPBOX_USAGE', `Cannot set "${name}": nothing to change is given`, { hint: 'loopbox set --help' });
  }
  return setConfig(context.store, name, parseConfigInput(input));
}

function printSet({ live, nextStart, attach }: SetResult, context: Context): void {
  if (context.global.quiet) return;
  if (live.length > 0) context.print(`${live.join(', ')}: changed now`);
  if (nextStart.length > 0) context.print(`${nextStart.join(', ')}: at next start`);
  if (attach) context.print(`attach: ${attach}`);
}
