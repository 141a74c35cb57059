import { explain, LoopboxError } from '../errors';
import { printable, printableJson } from '../printable';
import { Cancelled, type Context } from './context';
import { standardError } from './standard-error';

/**
 * Prints a failure on stderr, behind it what the clean-up could not do, and returns the exit code, which is that of the failure itself.
 * A system call that failed without being explained did so in `action`.
 */
export function reportFailure(error: unknown, action: string, context: Context): number {
  const failures = failuresOf(error).map((failure) => explain(failure, action));
  for (const failure of failures) printFailure(failure, context);
  return exitCodeFor(failures[0], context);
}

/** The body's failure first, then those of its clean-up: `await using` wraps the former into the latter. */
function failuresOf(error: unknown): unknown[] {
  if (error instanceof AggregateError && error.errors.length > 0) return error.errors.flatMap(failuresOf);
  // Node 20 has no such class; what tsc makes for it has its name.
  if (!(error instanceof Error && error.name === 'SuppressedError')) return [error];
  const { suppressed, error: ofCleanup } = error as Error & { suppressed: unknown; error: unknown };
  return [...failuresOf(suppressed), ...failuresOf(ofCleanup)];
}

/** A known failure as message and hint, an unknown one with its stack. */
function printFailure(error: unknown, context: Context): void {
  const cancelled = cancellationOf(error, context);
  if (cancelled) return print(cancelled.message);
  const known = error instanceof LoopboxError;
  if (context.format === 'json') {
    const { code, message, hint } = known ? error : { code: 'ERR_LOOPBOX_FAILED', message: String(error), hint: undefined };
    return print(printableJson(JSON.stringify({ error: { code, message, hint } })));
  }
  if (known) print(printable(`loopbox: ${error.message}`));
  if (known && error.hint) print(printable(`hint: ${error.hint}`));
  if (!known || context.global.verbose) print(stackOf(error).split('\n').map(printable).join('\n'));
}

function print(text: string): void {
  standardError().write(`${text}\n`);
}

/** The exit code for a failure. Where a command's own code is handed on, ours must not look like one: 125. */
function exitCodeFor(error: unknown, context: Context): number {
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
