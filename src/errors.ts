/** Every error code of loopbox with the exit code that the CLI ends with. `docs/errors.md` explains each. */
export const exitCodes = {
  ERR_LOOPBOX_FAILED: 1,
  ERR_LOOPBOX_USAGE: 2,
  ERR_LOOPBOX_NOT_FOUND: 10,
  ERR_LOOPBOX_EXISTS: 11,
  ERR_LOOPBOX_IN_USE: 11,
  ERR_LOOPBOX_LOCKED: 11,
  ERR_LOOPBOX_WRONG_STATE: 11,
  ERR_LOOPBOX_NOT_PERMITTED: 12,
  ERR_LOOPBOX_CORRUPT: 13,
  ERR_LOOPBOX_NO_SPACE: 14,
  ERR_LOOPBOX_NOT_SUPPORTED: 15,
  ERR_LOOPBOX_NOT_EXECUTABLE: 126,
  ERR_LOOPBOX_COMMAND_NOT_FOUND: 127,
} as const;

export type ErrorCode = keyof typeof exitCodes;

interface ErrorDetails {
  /** The next command to type, or the one thing to do. */
  hint?: string | undefined;
  cause?: unknown;
  /** The file the error is about. */
  path?: string | undefined;
}

/**
 * The one error class for what can go wrong in use; mistakes of a programmer stay plain errors.
 * The message reads `Cannot <action> "<object>": <state>`, without a full stop.
 */
export class LoopboxError extends Error {
  override readonly name = 'LoopboxError';
  readonly code: ErrorCode;
  readonly hint: string | undefined;
  readonly path: string | undefined;

  constructor(code: ErrorCode, message: string, details: ErrorDetails = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.code = code;
    this.hint = details.hint;
    this.path = details.path;
  }

  get exitCode(): number {
    return exitCodes[this.code];
  }
}

/** A failed system call as Node reports it; the addon's errors have the same shape. */
export interface SystemError extends Error {
  errno: number;
  code: string;
  syscall: string;
  path?: string;
}

/** Whether `error` is a failed system call, and one of `codes` (`'ENOENT'`, …) where any are given. */
export function isSystemError(error: unknown, ...codes: string[]): error is SystemError {
  if (!(error instanceof Error) || typeof (error as Partial<SystemError>).syscall !== 'string') return false;
  return codes.length === 0 || codes.includes((error as SystemError).code);
}

const codeOfErrno: Record<string, ErrorCode> = {
  ENOENT: 'ERR_LOOPBOX_NOT_FOUND',
  ENOTDIR: 'ERR_LOOPBOX_NOT_FOUND',
  EEXIST: 'ERR_LOOPBOX_EXISTS',
  EPERM: 'ERR_LOOPBOX_NOT_PERMITTED',
  EACCES: 'ERR_LOOPBOX_NOT_PERMITTED',
  EROFS: 'ERR_LOOPBOX_NOT_PERMITTED',
  ENOSPC: 'ERR_LOOPBOX_NO_SPACE',
  EDQUOT: 'ERR_LOOPBOX_NO_SPACE',
  EFBIG: 'ERR_LOOPBOX_NOT_SUPPORTED',
  EOPNOTSUPP: 'ERR_LOOPBOX_NOT_SUPPORTED',
  ENOLCK: 'ERR_LOOPBOX_NOT_SUPPORTED',
};

/**
 * Gives a failed system call the words of the action it failed in: `Cannot <action>: <reason>`.
 * A LoopboxError, an abort, or a programmer's error passes through unchanged.
 */
export function explain(error: unknown, action: string, details: Omit<ErrorDetails, 'cause'> = {}): unknown {
  if (!isSystemError(error)) return error;
  const code = codeOfErrno[error.code] ?? 'ERR_LOOPBOX_FAILED';
  return new LoopboxError(code, `Cannot ${action}: ${describeErrno(error)}`, { path: error.path, ...details, cause: error });
}

/** Runs `body`; a system call that fails in it is explained as `action`. */
export async function explaining<T>(action: string, body: () => Promise<T>): Promise<T> {
  try {
    return await body();
  } catch (error) {
    throw explain(error, action);
  }
}

/** `no space left on device (ENOSPC, fallocate)`. */
export function describeErrno(error: SystemError): string {
  const text = error.message.replace(/^[A-Z0-9]+: /, '').replace(/, [\w()]+( '.*')?$/, '');
  return `${text} (${error.code}, ${error.syscall})`;
}
