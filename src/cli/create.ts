import type { Command } from 'commander';
import { parseConfigInput } from '../container/config-input';
import { type Created, createContainer } from '../container/create';
import { formatSize } from '../units';
import type { Context } from './context';
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
} from './verb';

interface CreateFlags extends ConfigFlags, MakingFlags {
  template: string;
  start?: boolean;
}

export function register(program: Command, context: Context): void {
  addAttachFlag(
    addConfigFlags(
      addMakingFlags(
        addVerb(program, 'create <name>', 'create a container from a template')
          .usage('[options] <name> [-- CMD…]')
          .requiredOption('--template <name[:version]>', 'its template, as `loopbox template ls -q` prints it'),
      ).option('--start', 'start it, too'),
    ),
  ).action(action(context, runCreate, printCreated));
}

async function runCreate([name = '']: string[], flags: CreateFlags, context: Context): Promise<Created & { template: string }> {
  const created = await createContainer(context.store, name, {
    ...context.work,
    template: flags.template,
    sizeBytes: parseSizeFlag(flags.size),
    linked: flags.full ? false : flags.linked,
    change: parseConfigInput(configInput(flags, context.command)),
  });
  if (flags.start) {
    const { startContainer } = await import('../container/start');
    try {
      await startContainer(context.store, name, { signal: context.signal, warn: context.warn });
    } catch (error) {
      context.warn(`"${name}" is created, but not started`);
      throw error;
    }
  }
  return { ...created, template: flags.template };
}

function printCreated(created: Created & { template: string }, context: Context): void {
  if (context.global.quiet) return context.print(created.name);
  const how = { reflink: 'sharing blocks with', copy: 'copied from', linked: 'linked to' }[created.how];
  const why = created.isTooLargeToLink ? ' (too large for a delta on this file system)' : '';
  context.print(`${created.name}: ${formatSize(created.sizeBytes)}, ${how} ${created.template}${why}; attach: ${created.attach}`);
}
