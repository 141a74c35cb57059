import { constants } from 'node:os';

/** What a storage server says, `error ERRNO text`, as a failed system call. */
export function serverRefusal(call: string, line: string, path?: string): Error {
  const [, code = 'EPROTO', text = line] = /^error (E[A-Z0-9]+) (.*)$/.exec(line) ?? [];
  const errno = -((constants.errno as Record<string, number>)[code] ?? constants.errno.EPROTO);
  return Object.assign(new Error(`${code}: ${text}, ${call}`), { errno, code, syscall: call, path });
}
