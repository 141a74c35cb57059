import { type Command, Option } from 'commander';
import { defaultRoot, defaultRunRoot, defaultRuntime, defaultTransport, type Transport, transports } from '../container/store';

export interface GlobalOptions {
  root?: string;
  runRoot?: string;
  runtime?: string;
  transport?: Transport;
  format?: 'table' | 'json';
  quiet?: boolean;
  progress?: 'auto' | 'plain' | 'none';
  verbose?: boolean;
}

export const globalFlagsWithValue = ['--root', '--run-root', '--runtime', '--transport', '--format', '--progress'];

/** Global flags may stand before the verb or after it, so every command has them. */
export function addGlobalOptions(command: Command): Command {
  const options = [
    new Option('--root <dir>', `where containers and templates lie; ${defaultRoot} unless told`).env('LOOPBOX_ROOT'),
    new Option('--run-root <dir>', `where running containers keep their bundles; ${defaultRunRoot} unless told`).env('LOOPBOX_RUN_ROOT'),
    new Option('--runtime <name|path>', `the OCI runtime; ${defaultRuntime} unless told`).env('LOOPBOX_RUNTIME'),
    new Option('--transport <name>', `what brings requests to storage servers; ${defaultTransport} unless told`)
      .choices(transports)
      .env('LOOPBOX_TRANSPORT'),
    new Option('--format <format>', 'how results are printed; as a table unless told').choices(['table', 'json']),
    new Option('-q, --quiet', 'print names only'),
    new Option('--progress <mode>', 'how the progress of long work is shown; auto: on a terminal').choices(['auto', 'plain', 'none']),
    new Option('--verbose', 'show causes and stacks of errors'),
  ];
  for (const option of options) command.addOption(option.helpGroup('Global options:'));
  return command;
}

/** The global flags of a call; one behind the verb wins over one before it, and both over the environment. */
export function globalOptions(command: Command): GlobalOptions {
  const chain: Command[] = [];
  for (let at: Command | null = command; at; at = at.parent) chain.unshift(at);
  const merged: Record<string, unknown> = {};
  for (const source of ['env', 'cli']) {
    for (const level of chain) {
      for (const [key, value] of Object.entries(level.opts())) {
        if (level.getOptionValueSource(key) === source && value !== '') merged[key] = value;
      }
    }
  }
  return merged;
}
