import type { Command } from 'commander';
import { containerLogs, parseLineCount } from '../container/logs';
import type { Context } from './context';
import { standardError } from './standard-error';
import { action, addVerb } from './verb';

interface LogsFlags {
  follow?: boolean;
  lines?: string;
}

export function register(program: Command, context: Context): void {
  addVerb(program, 'logs <container>', "show what a container's command has written")
    .option('-f, --follow', 'go on until it ends')
    .option('-n, --lines <n>', 'only the last lines')
    .action(action(context, runLogs));
}

const newline = Buffer.from('\n');

/** The one verb that prints as it goes: its result may have no end. */
async function runLogs([name = '']: string[], flags: LogsFlags, context: Context): Promise<void> {
  context.streamsData = true;
  const lines = containerLogs(context.store, name, {
    follow: flags.follow ?? false,
    lines: flags.lines === undefined ? undefined : parseLineCount(flags.lines),
    signal: context.signal,
  });
  for await (const line of lines) {
    if (context.format === 'json') context.printJson(line, 0);
    else
      (line.stream === 'stderr' ? standardError() : process.stdout).write(line.partial ? line.bytes : Buffer.concat([line.bytes, newline]));
  }
}
