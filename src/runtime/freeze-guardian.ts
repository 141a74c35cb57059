import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { getSystemErrorMap } from 'node:util';
import type { SystemError } from '../errors';
import { packageDirectory } from '../package';
import { missingProgram } from '../process';

/** What the guardian answers: native/runtime/freeze-main.cc has the words. */
export type Reply = { word: string; ms: number; error?: undefined } | { word: 'error'; error: SystemError };

/** A running loopbox-freeze: the process that holds a freeze. It ends a freeze with the end of its input, which our death is, too. */
export class FreezeGuardian {
  readonly #process: ChildProcessByStdio<Writable, Readable, null>;
  readonly #replies: AsyncIterator<string>;
  readonly #ended: Promise<unknown>;
  readonly pid: number;

  /** `fd` is open in the file system to freeze; `cgroupFiles` are the cgroup.procs of where it moves itself before it is ready. */
  constructor(fd: number, markerPath: string, limitMs: number, cgroupFiles: string[] = []) {
    this.#process = spawn(join(packageDirectory, 'build', 'loopbox-freeze'), [markerPath, String(limitMs), ...cgroupFiles], {
      stdio: ['pipe', 'pipe', 'ignore', fd],
      // A session of its own: what ends the caller's must not end both.
      detached: true,
      env: {},
    }) as ChildProcessByStdio<Writable, Readable, null>;
    this.#ended = once(this.#process, 'close').catch(() => {});
    const { pid } = this.#process;
    if (pid === undefined) throw missingProgram('loopbox-freeze');
    this.pid = pid;
    // Its end is told by the end of its replies, and early enough.
    this.#process.stdin.on('error', () => {});
    this.#replies = createInterface({ input: this.#process.stdout })[Symbol.asyncIterator]();
  }

  request(letter: 's' | 'f' | 't'): void {
    this.#process.stdin.write(letter);
  }

  /** The next reply in order; undefined once the process has ended. */
  async reply(): Promise<Reply | undefined> {
    const next = await this.#replies.next();
    if (!next.done) return parseReply(next.value);
    await this.#ended;
    return undefined;
  }

  /** Resolves when the process has ended, and has let go of its marker. */
  get ended(): Promise<unknown> {
    return this.#ended;
  }

  /** Ends its input, and waits for its end. Returns false where it waits for the kernel for longer than `patienceMs`: it then ends by itself. */
  async close(patienceMs: number): Promise<boolean> {
    this.#process.stdin.end();
    const patience = new AbortController();
    const ended = this.#ended.then(() => true);
    const hasEnded = await Promise.race([ended, sleep(patienceMs, false, { signal: patience.signal }).catch(() => true)]);
    patience.abort();
    this.#process.unref();
    this.#process.stdin.destroy();
    this.#process.stdout.destroy();
    return hasEnded;
  }
}

function parseReply(line: string): Reply {
  const [word = '', number = '0', call = ''] = line.split(' ');
  if (word !== 'error') return { word, ms: Number(number) / 1e6 };
  const errno = -Number(number);
  const [code, text] = getSystemErrorMap().get(errno) ?? [`E${number}`, 'unknown error'];
  const error = new Error(`${code}: ${text}, ${call}`);
  return { word, error: Object.assign(error, { errno, code, syscall: call }) };
}
