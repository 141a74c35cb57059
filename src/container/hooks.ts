import { closeSync } from 'node:fs';
import { Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { LoopboxError } from '../errors';
import type { SnapshotHooks, SnapshotRecord } from '../image/manifest';
import { native } from '../native';
import type { Warn } from '../progress';
import type { RunRecord } from '../runtime/run-directory';
import { execIn } from './exec';
import type { Store } from './store';
import type { Target } from './target';

const defaultTimeoutSeconds = 30;
/** As a shell shows the end by SIGKILL. */
const killedCode = 137;
/** Of what a hook writes, its last words are shown. */
const shownLines = 3;
const keptCharacters = 2000;
const drainMs = 100;

/** A running container that a snapshot is taken of. */
export interface HookContext {
  store: Store;
  target: Target;
  run: RunRecord;
  hooks: SnapshotHooks;
  warn: Warn;
  signal?: AbortSignal | undefined;
}

/**
 * Runs a snapshot's `body` between its hooks and returns what they ended with. Where `pre` fails there is no snapshot: ERR_LOOPBOX_FAILED
 * with what it wrote. `post` runs in any case, also after a failure or an abort, which is not its own; its failure is a warning.
 */
export async function withHooks<T>(
  context: HookContext,
  body: () => Promise<T>,
): Promise<{ value: T; codes: NonNullable<SnapshotRecord['hooks']> }> {
  let post: number | undefined;
  const run = async () => {
    try {
      const pre = await runPre(context);
      return { pre, value: await body() };
    } finally {
      post = await runPost(context);
    }
  };
  const { pre, value } = await run();
  return { value, codes: { ...(pre !== undefined && { pre }), ...(post !== undefined && { post }) } };
}

async function runPre(context: HookContext): Promise<number | undefined> {
  if (context.hooks.pre === undefined) return undefined;
  const end = await runHook(context, context.hooks.pre, context.signal);
  if (end.code === 0) return end.code;
  throw new LoopboxError('ERR_LOOPBOX_FAILED', `Cannot take a snapshot of "${context.target.label}": ${describeEnd('pre', end)}`);
}

async function runPost(context: HookContext): Promise<number | undefined> {
  if (context.hooks.post === undefined) return undefined;
  try {
    const end = await runHook(context, context.hooks.post);
    if (end.code !== 0) context.warn(`"${context.target.label}": ${describeEnd('post', end)}`);
    return end.code;
  } catch (error) {
    context.warn(`"${context.target.label}": its post hook was not run: ${error instanceof Error ? error.message : String(error)}`);
    return undefined;
  }
}

interface HookEnd {
  /** The exit code, 128+n where signal n ended it. */
  code: number;
  /** The time that it did not end in. */
  timeoutSeconds?: number;
  output: string;
}

/** Runs a shell command as root in a running container. What does not end in time is killed, with what it began. */
async function runHook({ store, target, run, hooks }: HookContext, command: string, signal?: AbortSignal): Promise<HookEnd> {
  const timeoutSeconds = hooks.timeoutSeconds ?? defaultTimeoutSeconds;
  const end = new AbortController();
  const stop = () => end.abort(signal?.reason);
  const timer = setTimeout(() => end.abort(), timeoutSeconds * 1000);
  signal?.addEventListener('abort', stop, { once: true });
  const output = new Output();
  try {
    signal?.throwIfAborted();
    const code = await execIn(store, target, run.pid, ['sh', '-c', command], {
      environment: {},
      user: '0',
      workdir: '/',
      terminal: false,
      stdin: false,
      signal: end.signal,
      streams: [0, output.fd, output.fd],
      onStart: () => output.closeWriter(),
    });
    return { code, output: await output.text() };
  } catch (error) {
    if (!end.signal.aborted || signal?.aborted) throw error;
    return { code: killedCode, timeoutSeconds, output: await output.text() };
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener('abort', stop);
    output.close();
  }
}

function describeEnd(which: 'pre' | 'post', { code, timeoutSeconds, output }: HookEnd): string {
  const words = output.trim().split('\n').slice(-shownLines).join('; ');
  const how = timeoutSeconds === undefined ? `ended with ${code}` : `was killed: it took longer than ${timeoutSeconds} s`;
  return `its ${which} hook ${how}${words && `: ${words}`}`;
}

/** A pipe that a program writes to, and the end of what came through it. */
class Output {
  readonly #reader: Socket;
  #writer: number | undefined;
  #text = '';
  readonly #ended: Promise<void>;

  constructor() {
    const [readEnd, writeEnd] = native().pipe();
    this.#writer = writeEnd;
    this.#reader = new Socket({ fd: readEnd, readable: true, writable: false });
    this.#reader.setEncoding('utf8').on('data', (text: string) => (this.#text = (this.#text + text).slice(-keptCharacters)));
    this.#ended = new Promise((resolve) => this.#reader.once('close', () => resolve()).once('error', () => resolve()));
  }

  get fd(): number {
    if (this.#writer === undefined) throw new Error('The pipe is closed');
    return this.#writer;
  }

  /** To be called once the program has its own. */
  closeWriter(): void {
    if (this.#writer !== undefined) closeSync(this.#writer);
    this.#writer = undefined;
  }

  /** What was written. What the program has left running may go on to write for ever: it is not waited for. */
  async text(): Promise<string> {
    this.closeWriter();
    await Promise.race([this.#ended, sleep(drainMs)]);
    return this.#text;
  }

  close(): void {
    this.closeWriter();
    this.#reader.destroy();
  }
}
