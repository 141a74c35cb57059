import { type ErrorCode, LoopboxError } from '../errors';

interface KnownFailure {
  pattern: RegExp;
  code: ErrorCode;
  state?: string;
  hint?: string;
}

const knownFailures: KnownFailure[] = [
  {
    pattern: /executable file .*not found|exec: .*no such file or directory/i,
    code: 'ERR_LOOPBOX_COMMAND_NOT_FOUND',
    state: 'its command does not exist',
  },
  { pattern: /exec: .*(permission denied|is a directory)/i, code: 'ERR_LOOPBOX_NOT_EXECUTABLE', state: 'its command is not executable' },
  { pattern: /cgroups in hybrid mode not supported/i, code: 'ERR_LOOPBOX_NOT_SUPPORTED', hint: '--runtime runc' },
  { pattern: /memory.*(limit|max).*(busy|usage)/i, code: 'ERR_LOOPBOX_FAILED', hint: 'choose a limit above what it uses now' },
];

/** The error for an OCI runtime that failed, from what it wrote. */
export function describeRuntimeFailure(action: string, id: string, output: string): LoopboxError {
  const words = readRuntimeMessage(output) || 'the runtime gave no reason';
  const known = knownFailures.find(({ pattern }) => pattern.test(words));
  const state = known?.state === undefined ? words : `${known.state} (${words})`;
  return new LoopboxError(known?.code ?? 'ERR_LOOPBOX_FAILED', `Cannot ${action} "${id}": ${state}`, { hint: known?.hint });
}

/** What an OCI runtime says, without what its logger puts around it. */
export function readRuntimeMessage(output: string): string {
  const lines = output.split('\n').map((line) => line.trim());
  const messages = lines
    .filter(Boolean)
    .map(messageOfLine)
    .filter((message) => message !== undefined);
  // What the last line says, the earlier ones have often said already.
  return (messages.at(-1) ?? '')
    .replace(/^runc (create|start|run|update) failed: /, '')
    .replace(/^unable to start container process: /, '');
}

function messageOfLine(line: string): string | undefined {
  const logged = /level=(\w+) msg=("(?:[^"\\]|\\.)*"|\S+)/.exec(line);
  if (!logged) return line.replace(/^\d{4}-\S+Z?: /, '');
  if (logged[1] === 'warning' || logged[1] === 'info') return undefined;
  const message = logged[2] ?? '';
  return message.startsWith('"') ? unquote(message) : message;
}

function unquote(text: string): string {
  try {
    return JSON.parse(text) as string;
  } catch {
    return text.slice(1, -1);
  }
}
