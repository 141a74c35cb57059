import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { CleanupStack } from '../../../src/cleanup';
import { Cancelled, type Context } from '../../../src/cli/context';
import { reportFailure } from '../../../src/cli/error-output';
import { LoopboxError } from '../../../src/errors';
import { printable } from '../../../src/printable';

let printed = '';
beforeEach(() => {
  printed = '';
  vi.spyOn(process.stderr, 'write').mockImplementation((text) => {
    printed += String(text);
    return true;
  });
});
afterEach(() => vi.restoreAllMocks());

function report(error: unknown, { format = 'table', verbose = false, aborted = undefined as Cancelled | undefined } = {}): number {
  const signal = aborted ? AbortSignal.abort(aborted) : new AbortController().signal;
  return reportFailure(error, 'run "loopbox x"', { format, global: { verbose }, signal, runsCommand: false } as unknown as Context);
}

const corrupt = new LoopboxError('ERR_LOOPBOX_CORRUPT', 'Cannot use "web": it is damaged', { hint: 'look' });
const ioError = Object.assign(new Error("EIO: i/o error, close '/dev/loop7'"), {
  errno: -5,
  code: 'EIO',
  syscall: 'close',
  path: '/dev/loop7',
});

/** Fails in its body, and in what `await using` runs behind it. */
async function failTwice(body: unknown, ...ofCleanup: unknown[]): Promise<unknown> {
  try {
    await using cleanup = new CleanupStack();
    for (const error of ofCleanup) {
      cleanup.add(() => {
        throw error;
      });
    }
    throw body;
  } catch (error) {
    return error;
  }
}

it('tells a known failure with its hint, another with its stack', () => {
  expect(report(corrupt)).toBe(13);
  expect(printed).toBe('loopbox: Cannot use "web": it is damaged\nhint: look\n');
  printed = '';
  expect(report(ioError)).toBe(1);
  expect(printed).toBe('loopbox: Cannot run "loopbox x": i/o error (EIO, close)\n');
  printed = '';
  expect(report(new TypeError('a bug'))).toBe(1);
  expect(printed).toMatch(/^TypeError: a bug\n {4}at /);
});

it('tells what failed and then what the clean-up could not do, with the code of the former', async () => {
  expect(report(await failTwice(corrupt, ioError))).toBe(13);
  expect(printed).toBe('loopbox: Cannot use "web": it is damaged\nhint: look\nloopbox: Cannot run "loopbox x": i/o error (EIO, close)\n');
  printed = '';
  const twice = await failTwice(ioError, corrupt, corrupt);
  expect(report(twice, { format: 'json' })).toBe(1);
  const codes = printed.split('\n').map((line) => line && (JSON.parse(line) as { error: { code: string } }).error.code);
  expect(codes).toEqual(['ERR_LOOPBOX_FAILED', 'ERR_LOOPBOX_CORRUPT', 'ERR_LOOPBOX_CORRUPT', '']);
  printed = '';
  const cancelled = new Cancelled('SIGINT');
  expect(report(await failTwice(new DOMException('', 'AbortError'), corrupt), { aborted: cancelled })).toBe(130);
  expect(printed).toBe('Cancelled by SIGINT\nloopbox: Cannot use "web": it is damaged\nhint: look\n');
});

it('prints nothing that a terminal would obey', () => {
  const hostile = new LoopboxError('ERR_LOOPBOX_FAILED', 'Cannot use "\x1b]0;x\x07\x9b2J\n": no', { hint: '\x1b[2J' });
  for (const options of [{}, { verbose: true }, { format: 'json' }]) report(hostile, options);
  report(new Error('\x1b[2J'));
  expect(printed).toContain('\\x1b]0;x\\x07\\x9b2J\\x0a');
  expect(printed).toContain('\\u001b]0;x\\u0007\\u009b2J\\n');
  for (const line of printed.split('\n')) expect(line).toBe(printable(line));
});
