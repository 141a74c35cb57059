import { Command, CommanderError, Option } from 'commander';
import { LoopboxError } from '../errors';
import { packageVersion } from '../package';
import { Context } from './context';
import { reportFailure } from './error-output';
import { addGlobalOptions, globalFlagsWithValue } from './global-options';
import { hasToldAll, standardError } from './standard-error';
import { verbs } from './verbs';

/**
 * Runs one command line (without `node` and the script's name) and returns the exit code. Only the verb that is called is
 * loaded, so that starting stays cheap; for help all are.
 */
export async function main(argv: string[]): Promise<number> {
  const { before, command } = splitCommand(argv);
  const name = verbOf(before);
  const context = new Context(command);
  endWithOutput(context);
  const forgotten = () => {
    process.exitCode = reportFailure(new Error('Nothing is left to wait for, and the work is not done'), `run "loopbox ${name}"`, context);
  };
  // Where a promise is never settled Node would end with 0.
  process.once('beforeExit', forgotten);
  const program = new Command('loopbox');
  addGlobalOptions(program)
    .description('Containers that live in one ext4 image file each.')
    .addHelpText('after', '\n<container> is a name in the store, or the file of a container: whatever has a "/" is a path.')
    .enablePositionalOptions()
    .option('--version', 'print the version');
  for (const verb of verbsToLoad(name, before)) (await verbs[verb]()).register(program, context);
  for (const each of [program, ...allCommands(program)]) prepare(each, context);
  program.hook('preAction', () => {
    if (!command || verbsWithCommand.includes(name ?? '')) return;
    throw new LoopboxError('ERR_LOOPBOX_USAGE', `Cannot run "loopbox ${name}": it takes no command after "--"`, {
      hint: 'create, run and set take one',
    });
  });
  try {
    if (name === undefined && !before.includes('--version')) program.help({ error: before.length === 0 });
    await program.parseAsync(before, { from: 'user' });
    return context.exitCode;
  } catch (error) {
    if (error instanceof CommanderError && error.exitCode === 0) return 0;
    return reportFailure(error instanceof CommanderError ? usageError(error, name) : error, `run "loopbox ${name}"`, context);
  } finally {
    process.off('beforeExit', forgotten);
    context.close();
  }
}

/** Ends the process. What is still on its way to a pipe must arrive; where nothing is, V8 need not take itself apart first, which takes 2 ms. */
export function end(code: number): void {
  process.exitCode = code;
  // Later in this turn of the loop it is known whether the last write failed.
  setImmediate(() => {
    if (process.stdout.writableLength === 0 && hasToldAll()) process.exit();
  });
}

/** As a shell has it for a program that SIGPIPE ended. */
const brokenPipe = 141;

/** A reader that has seen enough (head, a pager) is told nothing; a result that can't be written is a failure. */
function endWithOutput(context: Context): void {
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code === 'EPIPE') process.exit(context.streamsData ? brokenPipe : 0);
    process.exit(reportFailure(error, 'write to standard output', context));
  });
}

/** What holds for the program and for each verb: errors are thrown, and told in the form that is asked for even where the rest makes no sense. */
function prepare(command: Command, context: Context): void {
  command.exitOverride().configureOutput({ writeErr: (text) => standardError().write(text), outputError: () => {} });
  command.on('option:format', (format: 'table' | 'json') => {
    context.global = { ...context.global, format };
  });
  if (command.parent) command.addOption(new Option('--version').hideHelp());
  command.on('option:version', () => {
    process.stdout.write(`loopbox ${packageVersion()}\n`);
    throw new CommanderError(0, 'commander.version', '');
  });
}

/** All for the help and for a verb that is mistyped, none for the version. */
function verbsToLoad(name: string | undefined, argv: string[]): (keyof typeof verbs)[] {
  if (name === undefined && argv.includes('--version')) return [];
  const all = Object.keys(verbs) as (keyof typeof verbs)[];
  const called = all.find((verb) => verb === name);
  return called ? [called] : all;
}

const verbsWithCommand = ['create', 'run', 'set'];

/** CMD follows the first `--`; exec and enter take all after NAME themselves. */
function splitCommand(argv: string[]): { before: string[]; command: string[] | undefined } {
  const at = argv.indexOf('--');
  if (at < 0 || ['exec', 'enter'].includes(verbOf(argv) ?? '')) return { before: argv, command: undefined };
  return { before: argv.slice(0, at), command: argv.slice(at + 1) };
}

function verbOf(argv: string[]): string | undefined {
  for (let i = 0; i < argv.length; i++) {
    const argument = argv[i] ?? '';
    if (!argument.startsWith('-')) return argument;
    if (globalFlagsWithValue.includes(argument)) i++;
  }
  return undefined;
}

function allCommands(command: Command): Command[] {
  return command.commands.flatMap((child) => [child, ...allCommands(child)]);
}

function usageError(error: CommanderError, verb: string | undefined): LoopboxError {
  const isHelp = error.code === 'commander.help';
  const text = isHelp
    ? 'no verb is given'
    : error.message
        .replace(/^error: /, '')
        .replace(/\n/g, ' ')
        .replace(/\.$/, '');
  return new LoopboxError('ERR_LOOPBOX_USAGE', `Cannot run "loopbox${verb ? ` ${verb}` : ''}": ${text}`, {
    hint: isHelp ? undefined : verb && verb in verbs ? `loopbox ${verb} --help` : 'loopbox --help',
    cause: error,
  });
}
