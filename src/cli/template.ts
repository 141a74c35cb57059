import type { Command } from 'commander';
import { parseConfigInput } from '../container/config-input';
import { createTemplate, importTemplate, inspectTemplate, listTemplates, removeTemplate, type TemplateInfo } from '../container/templates';
import { LoopboxError } from '../errors';
import { formatSize } from '../units';
import type { Context } from './context';
import { keyValues, table } from './table';
import { action, addImageConfigFlags, addVerb, type ConfigFlags, configInput, forEachName, parseSizeFlag, printNames } from './verb';

interface ImportFlags extends ConfigFlags {
  size?: string;
  cmd?: string;
}

export function register(program: Command, context: Context): void {
  const template = addVerb(program, 'template', 'templates that containers are created from');
  addImageConfigFlags(
    addVerb(
      template,
      'import <name[:version]> <source>',
      'make a template of a tar (plain, gzip, xz, zstd; - is stdin) or a raw ext4 image',
    )
      .option('--size <size>', "size of its disk: 10G for a tar, the image's own for an image")
      .option('--cmd <command>', 'its command: a JSON array, or a line for /bin/sh -c'),
  ).action(action(context, runImport, printTemplate));
  addVerb(template, 'create <name[:version]>', 'make a template of a stopped container')
    .requiredOption('--from <container>', 'the container')
    .action(action(context, runCreate, printCreated));
  addVerb(template, 'ls', 'list templates').action(action(context, (_, __, context) => listTemplates(context.store), printTemplates));
  addVerb(template, 'inspect <name...>', 'show all that is known of templates').action(action(context, runInspect, printInspected));
  addVerb(template, 'rm <name...>', 'remove templates')
    .option('--flatten-users', 'make the containers that are linked to them independent first')
    .action(action(context, runRemove, printNames));
}

function runImport([name = '', source = '']: string[], flags: ImportFlags, context: Context): Promise<TemplateInfo> {
  return importTemplate(context.store, name, source, {
    ...context.work,
    sizeBytes: parseSizeFlag(flags.size),
    change: parseConfigInput(configInput(flags, flags.cmd === undefined ? undefined : parseCommandFlag(flags.cmd))),
  });
}

/** The two forms of a Dockerfile's CMD. */
function parseCommandFlag(text: string): string[] {
  if (!text.startsWith('[')) return ['/bin/sh', '-c', text];
  try {
    const command: unknown = JSON.parse(text);
    if (Array.isArray(command) && command.length > 0 && command.every((word) => typeof word === 'string')) return command;
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
  }
  throw new LoopboxError('ERR_LOOPBOX_USAGE', `Cannot use --cmd '${text}': it is not a JSON array of strings`, {
    hint: `--cmd '["sleep", "60"]'`,
  });
}

function runCreate([name = '']: string[], flags: { from: string }, context: Context): ReturnType<typeof createTemplate> {
  return createTemplate(context.store, name, flags.from, context.work);
}

function runInspect(names: string[], _: object, context: Context): Promise<TemplateInfo[]> {
  return Promise.all(names.map((name) => inspectTemplate(context.store, name)));
}

function runRemove(names: string[], flags: { flattenUsers?: boolean }, context: Context): Promise<string[]> {
  return forEachName(names, context, (name) => removeTemplate(context.store, name, { ...context.work, ...flags }));
}

function printTemplate(template: TemplateInfo, context: Context): void {
  context.print(
    context.global.quiet
      ? template.name
      : `${template.name}: ${formatSize(template.sizeBytes)}, ${formatSize(template.ownBytes)} on the host`,
  );
}

function printCreated(template: TemplateInfo & { cleaned: string[] }, context: Context): void {
  printTemplate(template, context);
  if (!context.global.quiet) for (const item of template.cleaned) context.print(`cleaned ${item}`);
}

function printTemplates(templates: TemplateInfo[], context: Context): void {
  if (context.format === 'json') return context.printJson(templates);
  if (context.global.quiet)
    return printNames(
      templates.map(({ name }) => name),
      context,
    );
  const rows = templates.map(({ name, sizeBytes, ownBytes, created, problem }) => [
    name,
    formatSize(sizeBytes),
    formatSize(ownBytes),
    problem === undefined ? (created ?? '-') : `unusable (${problem})`,
  ]);
  context.print(...table(['NAME', 'SIZE', 'OWN', 'CREATED'], rows));
}

function printInspected(templates: TemplateInfo[], context: Context): void {
  if (context.format === 'json') return context.printJson(templates.length === 1 ? templates[0] : templates);
  if (context.global.quiet)
    return printNames(
      templates.map(({ name }) => name),
      context,
    );
  for (const template of templates) {
    const { name, path, sizeBytes, ownBytes, created, config, usedBy, problem } = template;
    context.print(
      ...keyValues([
        ['Name', name],
        ['File', path],
        ['Size', formatSize(sizeBytes)],
        ['Own bytes', formatSize(ownBytes)],
        ['Created', created],
        ['Command', config?.command?.join(' ')],
        ['User', config?.user],
        ['Workdir', config?.workdir],
        ['Linked', usedBy?.join(' ')],
        ['Problem', problem],
      ]),
    );
  }
}
