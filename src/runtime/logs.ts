import {
  closeSync,
  fstatSync,
  mkdirSync,
  openSync,
  readFileSync,
  readSync,
  renameSync,
  rmdirSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { dirname } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { isSystemError } from '../errors';
import { MiB } from '../units';

/** A piece of what a container's command wrote, as the monitor logged it. */
export class LogLine {
  /** ISO 8601 with nanoseconds. */
  readonly time: string;
  readonly stream: 'stdout' | 'stderr';
  /** As it was written, without the line's end. */
  readonly bytes: Buffer;
  /** Whether the line goes on in the next piece of the same stream. */
  readonly partial: boolean;

  constructor(fields: { time: string; stream: 'stdout' | 'stderr'; bytes: Buffer; partial: boolean }) {
    this.time = fields.time;
    this.stream = fields.stream;
    this.bytes = fields.bytes;
    this.partial = fields.partial;
  }

  /** For those who can't take bytes; what is not UTF-8 is replaced. */
  get text(): string {
    return this.bytes.toString();
  }

  toJSON() {
    const { time, stream, text, partial } = this;
    return { time, stream, text, partial };
  }
}

const capBytes = 10 * MiB;
/** Less than a monitor takes to fill a log, so that none is missed. */
const pollMs = 50;
const newline = 0x0a;

/**
 * Makes a log ready for the next run and returns how many bytes the monitor may write before it starts the log anew. The monitor counts
 * only its own, so that of a log that is more than half full the older part is dropped here.
 */
export function prepareLog(path: string): number {
  makeLog(path);
  const size = sizeOf(path);
  if (size <= capBytes / 2) return capBytes - size;
  const content = readFileSync(path);
  const tail = content.subarray(content.indexOf(newline, content.length - capBytes / 2) + 1);
  writeFileSync(`${path}.new`, tail, { mode: 0o600 });
  renameSync(`${path}.new`, path);
  return capBytes / 2;
}

/** Removes a log, and the directory of its store's logs with the last one. */
export function removeLog(path: string): void {
  rmSync(path, { force: true });
  try {
    rmdirSync(dirname(path));
  } catch (error) {
    if (!isSystemError(error, 'ENOENT', 'ENOTEMPTY', 'EBUSY')) throw error;
  }
}

/** Makes the log where it is missing, again where its directory goes in between with somebody else's last log. */
function makeLog(path: string): void {
  for (let attempt = 0; ; attempt++) {
    try {
      mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
      return closeSync(openSync(path, 'a', 0o600));
    } catch (error) {
      if (attempt >= 100 || !isSystemError(error, 'ENOENT')) throw error;
    }
  }
}

export interface ReadLogsOptions {
  /** Only the last lines; all unless told. */
  lines?: number | undefined;
  /** Goes on as long as it says so, and to the end of what was written by then. The log may be started anew meanwhile. */
  follow?: () => Promise<boolean>;
  signal?: AbortSignal | undefined;
}

/** Reads a log, oldest first. One that does not exist (yet) is empty. */
export async function* readLogs(path: string, options: ReadLogsOptions = {}): AsyncGenerator<LogLine> {
  using log = new LogFile(path);
  yield* lastLines([...log.read()], options.lines);
  if (!options.follow) return;
  for (let goesOn = true; goesOn; ) {
    await sleep(pollMs, undefined, options.signal && { signal: options.signal });
    // Asked before the reading, so that the last words are not missed.
    goesOn = await options.follow();
    yield* log.read();
  }
}

/** The end of a list of pieces that makes up the last `count` lines. */
function lastLines(pieces: LogLine[], count: number | undefined): LogLine[] {
  if (count === undefined) return pieces;
  let first = pieces.length;
  for (let lines = 0; first > 0; first--) {
    const startsLine = first === pieces.length || !pieces[first - 1]?.partial;
    if (startsLine && ++lines > count) break;
  }
  return pieces.slice(first);
}

/** Parses a line of conmon's `k8s-file` format: `TIME STREAM F|P CONTENT`. Undefined for anything else. */
export function parseLogLine(line: Buffer): LogLine | undefined {
  const match = /^(\S+) (stdout|stderr) ([FP]) /.exec(line.subarray(0, 80).toString('latin1'));
  if (!match) return undefined;
  const [head, time = '', stream, tag] = match;
  return new LogLine({ time, stream: stream as LogLine['stream'], bytes: line.subarray(head.length), partial: tag === 'P' });
}

/**
 * The log as one open file after the other: the monitor replaces a full one by a new one of the same name. Those that come while an older
 * one is read are opened at once, since the next replacement would take their name away.
 */
class LogFile implements Disposable {
  readonly #path: string;
  /** Oldest first. */
  readonly #fds: number[] = [];
  #rest: Buffer = Buffer.alloc(0);
  readonly #buffer = Buffer.alloc(256 * 1024);

  constructor(path: string) {
    this.#path = path;
  }

  /** All whole lines that were added since the last time. */
  *read(): Generator<LogLine> {
    for (;;) {
      this.#openNewest();
      const [fd] = this.#fds;
      if (fd === undefined) return;
      const count = readSync(fd, this.#buffer);
      if (count > 0) yield* this.#lines(this.#buffer.subarray(0, count));
      // One that has a successor gets no more lines.
      else if (this.#fds.length > 1) this.#closeOldest();
      else return;
    }
  }

  *#lines(chunk: Buffer): Generator<LogLine> {
    let bytes = Buffer.concat([this.#rest, chunk]);
    for (let end = bytes.indexOf(newline); end >= 0; end = bytes.indexOf(newline)) {
      const line = parseLogLine(bytes.subarray(0, end));
      bytes = bytes.subarray(end + 1);
      if (line) yield line;
    }
    this.#rest = bytes;
  }

  #openNewest(): void {
    const last = this.#fds.at(-1);
    if (last !== undefined && isSameFile(last, this.#path)) return;
    const next = openLog(this.#path);
    if (next !== undefined) this.#fds.push(next);
  }

  #closeOldest(): void {
    closeSync(this.#fds.shift() as number);
    this.#rest = Buffer.alloc(0);
  }

  [Symbol.dispose](): void {
    while (this.#fds.length > 0) this.#closeOldest();
  }
}

function openLog(path: string): number | undefined {
  try {
    return openSync(path, 'r');
  } catch (error) {
    if (isSystemError(error, 'ENOENT')) return undefined;
    throw error;
  }
}

function isSameFile(fd: number, path: string): boolean {
  const open = fstatSync(fd);
  const named = statSync(path, { throwIfNoEntry: false });
  return named === undefined || (named.ino === open.ino && named.dev === open.dev);
}

function sizeOf(path: string): number {
  return statSync(path, { throwIfNoEntry: false })?.size ?? 0;
}
