import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Command } from 'commander';
import { describe, expect, it } from 'vitest';
import type { Context } from '../../../src/cli/context';
import { addGlobalOptions } from '../../../src/cli/global-options';
import { verbs } from '../../../src/cli/verbs';
import { parseConsoleBlocks } from '../../console-blocks';

const document = readFileSync(join(import.meta.dirname, '../../../docs/cli.md'), 'utf8');
const width = 110;

const program = addGlobalOptions(new Command('loopbox').enablePositionalOptions());
for (const load of Object.values(verbs)) (await load()).register(program, {} as Context);
const commands = program.commands.flatMap((verb) => (verb.commands.length > 0 ? verb.commands : [verb]));

/** `loopbox template import` */
function nameOf(command: Command): string {
  return command.parent ? `${nameOf(command.parent)} ${command.name()}` : command.name();
}

/** What `--help` prints, but for what is the same for every verb: the global flags and `--help` itself. */
function helpOf(command: Command): string {
  const text = command.configureOutput({ getOutHelpWidth: () => width }).helpInformation();
  const parts = text.trimEnd().split('\n\n');
  return parts
    .filter((part) => !part.startsWith('Global options:'))
    .map((part) => part.replace(/\n? *-h, --help .*$/, ''))
    .filter((part) => part !== 'Options:')
    .join('\n\n');
}

/** The global flags with their descriptions. */
function globalHelp(): string {
  const text = program.configureOutput({ getOutHelpWidth: () => width }).helpInformation();
  return text.split('\n\n').find((part) => part.startsWith('Global options:')) ?? '';
}

const sections = document.split(/^## /m).slice(1);

describe('docs/cli.md', () => {
  it('has a section for each verb, in the order of the help', () => {
    const titles = sections.map((section) => section.slice(0, section.indexOf('\n')));
    expect(titles.filter((title) => title.startsWith('loopbox '))).toEqual(commands.map(nameOf));
  });

  it('shows the global flags as --help prints them', () => {
    expect(document).toContain(`\`\`\`text\n${globalHelp()}\n\`\`\`\n`);
  });

  it.each(commands.map((command) => [nameOf(command), command] as const))('shows what `%s --help` prints', (name, command) => {
    expect(sections.find((section) => section.startsWith(`${name}\n`))).toContain(`\`\`\`text\n${helpOf(command)}\n\`\`\`\n`);
  });

  it.each(commands.map(nameOf))('has an example of `%s`', (name) => {
    const examples = parseConsoleBlocks(document).map(({ command }) => command);
    // `enter` wants a terminal.
    const untested = [...document.matchAll(/^```console\n# (.*)$/gm)].map(([, command]) => command);
    expect([...examples, ...untested].some((command) => command?.includes(name))).toBe(true);
  });
});
