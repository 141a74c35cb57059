import { LoopboxError } from '../errors';
import { printable } from '../printable';
import { Cancelled, type Context } from './context';

/** Prints a failure on stderr: a known one as message and hint, an unknown one with its stack. */
export function printError(error: unknown, context: Context): void {
  const cancelled = cancellationOf(error, context);
  if (cancelled) {
    process.stderr.write(`${cancelled.message}\n`);
    return;
  }
  const known = error instanceof LoopboxError;
  if (context.format === 'json') {
    const { code, message, hint } = known ? error : { code: 'ERR_LOOPBOX_FAILED', message: String(error), hint: undefined };
    process.stderr.write(`${JSON.stringify({ error: { code, message, hint } })}\n`);
    return;
  }
  process.stderr.write(known ? `loopbox: ${printable(error.message)}\n` : `${stackOf(error)}\n`);
  if (known && error.hint) process.stderr.write(`hint: ${printable(error.hint)}\n`);
  if (known && context.global.verbose) process.stderr.write(`${stackOf(error)}\n`);
}

/** The exit code for a failure. Where a command's own code is handed on, ours must not look like one: 125. */
export function exitCodeFor(error: unknown, context: Context): number {
  const cancelled = cancellationOf(error, context);
  if (cancelled) return cancelled.exitCode;
  const code = error instanceof LoopboxError ? error.exitCode : 1;
  const isCommands = code === 126 || code === 127;
  if (context.runsCommand) return isCommands || code === 2 ? code : 125;
  return isCommands ? 1 : code;
}

function cancellationOf(error: unknown, context: Context): Cancelled | undefined {
  if (error instanceof Cancelled) return error;
  const reason: unknown = context.signal.reason;
  const aborted = error instanceof Error && error.name === 'AbortError';
  return aborted && reason instanceof Cancelled ? reason : undefined;
}

function stackOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const cause = error.cause === undefined ? '' : `\ncaused by: ${stackOf(error.cause)}`;
  return `${error.stack ?? error.message}${cause}`;
}
