import type { Command } from 'commander';
import { parseConfigInput } from '../container/config-input';
import { exitCodeOf, type RunningContainer, type RunOptions, runFile, runTemplate } from '../container/run';
import { LoopboxError } from '../errors';
import type { Context } from './context';
import { settleBehind } from './merge-behind';
import { selfCommand } from './self-command';
import {
  action,
  addAttachFlag,
  addConfigFlags,
  addMakingFlags,
  addVerb,
  type ConfigFlags,
  configInput,
  type MakingFlags,
  parseSizeFlag,
  requireTerminal,
} from './verb';

interface RunFlags extends ConfigFlags, MakingFlags {
  template?: string;
  rm?: boolean;
  detach?: boolean;
  interactive?: boolean;
  tty?: boolean;
  ephemeral?: boolean;
}

export function register(program: Command, context: Context): void {
  addAttachFlag(
    addConfigFlags(
      addMakingFlags(
        addVerb(program, 'run [name|file]', 'create a container from a template and start it, or run one straight from its file')
          .usage('[options] (--template T [NAME] | FILE) [-- CMD…]')
          .option('--template <name[:version]>', 'create the container from this template'),
      )
        .option('--rm', 'remove it after its end; of a FILE nothing is removed but the record of its run')
        .option('-d, --detach', 'return once it runs')
        .option('-i, --interactive', 'pass standard input')
        .option('-t, --tty', 'give it a terminal, keys included')
        .option('--ephemeral', 'changes go to a copy of FILE that ends with the run'),
    ),
  ).action(action(context, runRun, (name, context) => name !== undefined && context.print(name)));
}

/** Returns what a detached run prints: its name. In the foreground the exit code is the command's. */
async function runRun([argument]: string[], flags: RunFlags, context: Context): Promise<string | undefined> {
  const problem = problemOf(argument, flags);
  if (problem)
    throw new LoopboxError('ERR_LOOPBOX_USAGE', `Cannot run "${argument ?? 'loopbox run'}": ${problem.text}`, { hint: problem.hint });
  if (flags.tty && !flags.detach) await requireTerminal();
  if (!flags.detach) context.expectCommand();
  const container = await start(argument, flags, context, {
    ...context.work,
    warn: context.warn,
    change: parseConfigInput(configInput(flags, context.command)),
    detach: flags.detach ?? false,
    onAttach: () => context.clearProgress(),
    terminal: flags.tty ?? false,
    // A terminal without keys could not even be interrupted.
    stdin: (flags.interactive || (flags.tty && !flags.detach)) ?? false,
    ...((flags.rm || flags.ephemeral) && { removeCommand: (id) => [...selfCommand(context), 'rm', '--after-end', id] }),
  });
  if (flags.detach) return container.name;
  context.forwardSignals((signal) => void container.interrupt(signal));
  context.exitCode = exitCodeOf(container.name, await container.ended);
  if (!flags.rm) await settleBehind(context, [container.name]);
  return undefined;
}

function start(argument: string | undefined, flags: RunFlags, context: Context, options: RunOptions): Promise<RunningContainer> {
  if (argument?.includes('/')) return runFile(context.store, argument, { ...options, ephemeral: flags.ephemeral ?? false });
  return runTemplate(context.store, {
    ...options,
    template: flags.template ?? '',
    name: argument,
    sizeBytes: parseSizeFlag(flags.size),
    linked: flags.full ? false : flags.linked,
  });
}

function problemOf(argument: string | undefined, flags: RunFlags): { text: string; hint: string } | undefined {
  if (argument?.includes('/')) {
    if (flags.template) return { text: 'a FILE needs no template', hint: `loopbox run ${argument}` };
    if (flags.size) return { text: 'a FILE keeps its size', hint: `loopbox import ${argument}` };
    if (flags.linked || flags.full || flags.attach)
      return { text: 'a FILE is run as it is: --linked, --full and --attach are for a template', hint: `loopbox run ${argument}` };
    return undefined;
  }
  if (flags.ephemeral) return { text: '--ephemeral is for a FILE', hint: 'use --rm with a template' };
  if (flags.template) return undefined;
  if (argument === undefined) return { text: 'neither a template nor a FILE is given', hint: 'loopbox template ls' };
  return { text: 'no template is given', hint: `loopbox start ${argument}, or loopbox run --template T ${argument}` };
}
