/** One command of a document's example, with the output that it shows. */
export interface ConsoleCommand {
  /** The command's line in the document, from 1. */
  line: number;
  command: string;
  expected: string[];
}

/**
 * The commands in a document's blocks that begin with ```` ```console test ````. A line that starts with `# ` is a command
 * (continued after a `\` at its end), what follows is its output. Throws where output comes before any command.
 */
export function parseConsoleBlocks(markdown: string): ConsoleCommand[] {
  const commands: ConsoleCommand[] = [];
  let current: ConsoleCommand | undefined;
  let isInside = false;
  for (const [index, text] of markdown.split('\n').entries()) {
    if (text.startsWith('```')) {
      isInside = !isInside && text.trim() === '```console test';
      current = undefined;
    } else if (isInside && text.startsWith('# ')) {
      current = { line: index + 1, command: text.slice(2), expected: [] };
      commands.push(current);
    } else if (isInside && current?.expected.length === 0 && current.command.endsWith('\\')) {
      current.command += `\n${text}`;
    } else if (isInside) {
      if (!current) throw new Error(`Line ${index + 1}: output before the first command: ${text}`);
      current.expected.push(text);
    }
  }
  return commands;
}

/**
 * Whether a command printed what its example shows. `…` stands for any text within a line, alone on a line for any lines;
 * how wide a column is does not matter.
 */
export function outputMatches(expected: string[], actual: string): boolean {
  const pattern = trimmed(expected).map((line) => (line === '…' ? '(?:.*\\n)*?' : `${escapeForPattern(line).replaceAll('…', '.*')}\\n`));
  const lines = trimmed(actual.split('\n'));
  return new RegExp(`^${pattern.join('')}$`).test(lines.map((line) => `${line}\n`).join(''));
}

function trimmed(lines: string[]): string[] {
  const result = lines.map((line) => line.replaceAll(/[ \t]+/g, ' ').trim());
  while (result.at(-1) === '') result.pop();
  return result;
}

function escapeForPattern(text: string): string {
  return text.replaceAll(/[\\^$.*+?()[\]{}|]/g, '\\$&');
}
