import type { Command } from 'commander';
import { parseConfigInput } from '../container/config-input';
import { execCommand } from '../container/exec';
import { LoopboxError } from '../errors';
import type { Context } from './context';
import { action, addExecFlags, addVerb, type ExecFlags, requireTerminal } from './verb';

interface InteractiveExecFlags extends ExecFlags {
  interactive?: boolean;
  tty?: boolean;
}

export function register(program: Command, context: Context): void {
  addExecFlags(
    addVerb(program, 'exec <container> [command...]', 'run a command in a running container')
      .usage('[options] <container> CMD…')
      .option('-i, --interactive', 'pass standard input')
      .option('-t, --tty', 'give it a terminal, keys included')
      .passThroughOptions(),
  ).action(action(context, runExec));
}

async function runExec([name = '', ...rest]: string[], flags: InteractiveExecFlags, context: Context): Promise<void> {
  const command = rest[0] === '--' ? rest.slice(1) : rest;
  if (command.length === 0) {
    throw new LoopboxError('ERR_LOOPBOX_USAGE', `Cannot exec in "${name}": no command is given`, { hint: `loopbox enter ${name}` });
  }
  if (flags.tty) await requireTerminal();
  await execWith(name, command, flags, context);
}

/** Runs a command, or with none the user's shell, and makes its exit code ours. */
export async function execWith(name: string, command: string[], flags: InteractiveExecFlags, context: Context): Promise<void> {
  context.expectCommand();
  const { environment, workdir, user } = parseConfigInput({ env: flags.env, workdir: flags.workdir, user: flags.user });
  const values = Object.entries(environment).filter((pair): pair is [string, string] => pair[1] !== null);
  if (values.length < Object.keys(environment).length) {
    throw new LoopboxError('ERR_LOOPBOX_USAGE', `Cannot exec in "${name}": only --env KEY=VALUE is for one command`, {
      hint: `loopbox set ${name} -e KEY-`,
    });
  }
  context.exitCode = await execCommand(context.store, name, command, {
    environment: Object.fromEntries(values),
    workdir,
    user,
    terminal: flags.tty ?? false,
    // A terminal without keys could not even be interrupted.
    stdin: (flags.interactive || flags.tty) ?? false,
    signal: context.signal,
    onStart: (send) => context.forwardSignals(send),
  });
}
