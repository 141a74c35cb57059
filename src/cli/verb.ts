import { type Command, Option } from 'commander';
import type { ConfigInput } from '../container/config-input';
import { LoopboxError } from '../errors';
import { parseSize } from '../units';
import type { Context } from './context';
import { addGlobalOptions } from './global-options';

/** Adds a verb with the global flags. `usage` is its name and arguments, as commander writes them. */
export function addVerb(parent: Command, usage: string, description: string): Command {
  return addGlobalOptions(parent.command(usage).description(description));
}

/**
 * Makes an action of a verb's `run` function, which returns data, and of how its result is printed. `run` gets the positional
 * arguments, the flags and the context.
 */
export function action<Options, Result>(
  context: Context,
  run: (args: string[], options: Options, context: Context) => Promise<Result>,
  print: (result: Result, context: Context) => void = () => {},
): (this: Command) => Promise<void> {
  return async function (this: Command) {
    context.adopt(this);
    print(await run(this.args, this.opts() as Options, context), context);
  };
}

/** Does `work` for each name, all of them whatever happens; the first failure is thrown when the rest is done, others are printed. */
export async function forEachName(names: string[], context: Context, work: (name: string) => Promise<void>): Promise<string[]> {
  const failures: LoopboxError[] = [];
  for (const name of names) {
    try {
      await work(name);
    } catch (error) {
      if (context.signal.aborted || !(error instanceof LoopboxError)) throw error;
      failures.push(error);
    }
  }
  for (const failure of failures.slice(1)) context.warn(failure.message);
  if (failures[0]) throw failures[0];
  return names;
}

export function printNames(names: string[], context: Context): void {
  for (const name of names) context.print(name);
}

const collect = (value: string, list: string[] = []) => [...list, value];

export interface ConfigFlags {
  memory?: string;
  cpus?: string;
  pids?: string;
  hostname?: string;
  env?: string[];
  workdir?: string;
  user?: string;
  label?: string[];
  attach?: string;
  settle?: string;
  hookPre?: string;
  hookPost?: string;
  hookTimeout?: string;
}

/** The flags of a container's config, the same for create, run and set. */
export function addConfigFlags(command: Command): Command {
  return addImageConfigFlags(command)
    .option('--memory <size>', 'memory limit, with swap (64M, 2G), or none')
    .option('--cpus <number>', 'CPU limit (0.5, 2), or none')
    .option('--pids <number>', 'limit of processes, or none')
    .option('--hostname <name>', 'host name inside');
}

export function addAttachFlag(command: Command): Command {
  return command.option('--attach <how>', 'how its disk is attached: auto, direct (by the kernel alone) or stack');
}

/** The flags of how a container is made from its template. */
export interface MakingFlags {
  size?: string;
  linked?: boolean;
  full?: boolean;
}

export function addMakingFlags(command: Command): Command {
  return command
    .option('--size <size>', "size of its disk; the template's unless told")
    .option('--linked', "share the template's file, which then has to stay")
    .addOption(new Option('--full', 'copy the template, which it then does not need').conflicts('linked'));
}

/** The part of a container's config that is about its snapshots. */
export function addSnapshotConfigFlags(command: Command): Command {
  return command
    .option('--hook-pre <command>', 'shell command inside, before each snapshot, or none')
    .option('--hook-post <command>', 'shell command inside, after each snapshot, or none')
    .option('--hook-timeout <seconds>', 'time for each of them, 30 unless told, or none')
    .option('--settle <when>', 'whether stop makes it one file again: auto or never');
}

/** The part of a container's config that a template can carry. */
export function addImageConfigFlags(command: Command): Command {
  return command
    .option('-e, --env <K=V>', 'environment variable; K- removes it', collect)
    .option('-w, --workdir <dir>', 'working directory of the command')
    .option('-u, --user <user[:group]>', 'user of the command, by name or id')
    .option('--label <K=V>', 'label; K- removes it', collect);
}

export function configInput(flags: ConfigFlags, command: string[] | undefined): ConfigInput {
  if (command?.length === 0) throw new LoopboxError('ERR_LOOPBOX_USAGE', 'Cannot use an empty command: nothing follows "--"');
  const { memory, cpus, pids, hostname, env, workdir, user, label, attach, settle, hookPre, hookPost, hookTimeout } = flags;
  return { memory, cpus, pids, hostname, env, workdir, user, label, attach, settle, hookPre, hookPost, hookTimeout, command };
}

/** Bytes of a `--size`. Throws ERR_LOOPBOX_USAGE for what is no size. */
export function parseSizeFlag(text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  const bytes = parseSize(text);
  if (bytes !== undefined) return bytes;
  throw new LoopboxError('ERR_LOOPBOX_USAGE', `Cannot use --size "${text}": it is not a size`, { hint: '--size 10G' });
}

export function parseSeconds(text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  if (/^\d{1,7}(\.\d+)?$/.test(text)) return Number(text);
  throw new LoopboxError('ERR_LOOPBOX_USAGE', `Cannot wait "${text}" seconds: it is not a number`);
}

/** Refuses `-t` where standard input is no terminal. */
export async function requireTerminal(): Promise<void> {
  // Loaded here: it takes 2 ms.
  const { isatty } = await import('node:tty');
  if (isatty(0)) return;
  throw new LoopboxError('ERR_LOOPBOX_USAGE', 'Cannot use -t: standard input is not a terminal', { hint: 'use -i alone' });
}

export interface ExecFlags {
  env?: string[];
  workdir?: string;
  user?: string;
}

export function addExecFlags(command: Command): Command {
  return command
    .option('-e, --env <K=V>', 'environment variable', collect)
    .option('-w, --workdir <dir>', 'working directory')
    .option('-u, --user <user[:group]>', 'user, by name or id');
}
