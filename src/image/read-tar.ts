import { constants, createReadStream } from 'node:fs';
import { addAbortSignal, type Readable } from 'node:stream';
import { explain, isSystemError, LoopboxError } from '../errors';
import type { NativeEntry } from '../native';
import { shortName } from '../printable';
import type { WorkOptions } from '../progress';
import { MiB, roundUp } from '../units';
import { decompress } from './decompress';
import { closeFile, fileStatus, openFile } from './file-io';
import { parseTarEntry } from './tar-entry';
import { TarParser } from './tar-parser';

/** What tar-stream does per chunk costs more than what it does per byte. */
const readLength = MiB;
/** A batch is what one call of the addon makes while the next is being parsed. */
const batchBytes = 2 * MiB;
const batchEntries = 500;
/** The content of a large file is handed on in pieces of at least this: a chunk that was read is one by itself, and is not copied. */
const pieceBytes = MiB / 4;
/** Enough of the source to tell what it is. */
const headLength = 512;

/** An archive being read, once. */
export interface TarSource extends AsyncDisposable {
  /** Its entries in batches, in order; a batch is read when it is asked for. */
  entries(): AsyncGenerator<NativeEntry[]>;
  /** Stops reading. Idempotent. */
  close(): Promise<void>;
}

/**
 * Opens a tar archive, plain or behind gzip, xz or zstd; `-` is standard input. NOT_FOUND where there is none. Its entries end with
 * CORRUPT where it is no tar, damaged or cut short, NOT_SUPPORTED at what can't be kept whole, the signal's reason when that aborts.
 */
export async function openTar(path: string, options: WorkOptions = {}): Promise<TarSource> {
  if (path === '-') return tarSource(process.stdin, 'standard input', options);
  let fd: number | undefined;
  try {
    // Never wait for a fifo's writer: Ctrl-C could not end that.
    fd = await openFile(path, constants.O_RDONLY | constants.O_NONBLOCK);
    const status = await fileStatus(fd);
    if (!status.isFile()) throw notRegular(path, status.isDirectory());
    return tarSource(createReadStream(path, { fd, highWaterMark: readLength }), path, options, status.size);
  } catch (error) {
    if (fd !== undefined) await closeFile(fd);
    throw explain(error, `open "${path}"`, { path });
  }
}

function notRegular(path: string, isDirectory: boolean): LoopboxError {
  return new LoopboxError(
    'ERR_LOOPBOX_NOT_SUPPORTED',
    `Cannot import "${path}": it is ${isDirectory ? 'a directory' : 'not a regular file'}`,
    {
      path,
      hint: isDirectory ? `tar -C ${path} -c . | loopbox template import NAME -` : `loopbox template import NAME - < ${path}`,
    },
  );
}

/** The archive that a stream brings; `label` is what messages call it. */
export function tarSource(stream: Readable, label: string, options: WorkOptions = {}, totalBytes?: number): TarSource {
  const close = async () => void stream.destroy();
  return { entries: () => readEntries(stream, label, options, totalBytes), close, [Symbol.asyncDispose]: close };
}

/** What was read whole. */
interface Position {
  entry?: string;
  bytes: number;
}

async function* readEntries(
  stream: Readable,
  label: string,
  options: WorkOptions,
  totalBytes: number | undefined,
): AsyncGenerator<NativeEntry[]> {
  const { signal } = options;
  signal?.throwIfAborted();
  if (signal) addAbortSignal(signal, stream);
  await using parser = new TarParser(archiveBytes(stream, label, options, totalBytes));
  const position: Position = { bytes: 0 };
  try {
    yield* readBatches(parser, label, position);
    if (position.entry === undefined) throw damaged(label, 'it holds no entries');
    if (!parser.isClosedAfter(position.bytes)) throw damaged(label, `it is cut short after entry "${position.entry}"`);
  } catch (error) {
    signal?.throwIfAborted();
    throw describeFailure(error, label, position.entry);
  } finally {
    stream.destroy();
  }
}

async function* archiveBytes(
  stream: Readable,
  label: string,
  { onProgress }: WorkOptions,
  totalBytes: number | undefined,
): AsyncGenerator<Buffer> {
  let doneBytes = 0;
  async function* counted(): AsyncGenerator<Buffer> {
    for await (const chunk of stream as AsyncIterable<Buffer>) {
      doneBytes += chunk.length;
      onProgress?.({ action: 'importing', doneBytes, totalBytes });
      yield chunk;
    }
  }
  const source = counted();
  const head = await firstBytes(source);
  async function* all(): AsyncGenerator<Buffer> {
    if (head.length > 0) yield head;
    yield* source;
  }
  yield* decompress(all(), head, label);
}

async function firstBytes(source: AsyncGenerator<Buffer>): Promise<Buffer> {
  let head: Buffer = Buffer.alloc(0);
  while (head.length < headLength) {
    const next = await source.next();
    if (next.done) break;
    head = head.length === 0 ? next.value : Buffer.concat([head, next.value]);
  }
  return head;
}

/** Each entry, large files in several pieces, batch by batch: one generator for all, as each costs a few µs per entry. */
async function* readBatches(parser: TarParser, label: string, position: Position): AsyncGenerator<NativeEntry[]> {
  let batch: NativeEntry[] = [];
  let bytes = 0;
  for await (const source of parser.entries()) {
    const { name, size, byteOffset } = source.header;
    const entry = parseTarEntry(source.header, { label, global: parser.globalRecords });
    if (size === 0 || entry.type === 'directory') {
      source.resume();
      batch.push(entry);
    } else if (entry.type === 'file') {
      const pieces = new Pieces(entry);
      for await (const chunk of source) {
        bytes += chunk.length;
        const piece = pieces.add(chunk);
        if (!piece) continue;
        batch.push(piece);
        if (bytes < batchBytes) continue;
        yield batch;
        batch = [];
        bytes = 0;
      }
      batch.push(pieces.end());
    } else throw damaged(label, `entry "${shortName(name)}" has content and is no file`);
    position.entry = shortName(name);
    position.bytes = byteOffset + (entry.type === 'directory' ? 0 : roundUp(size, 512));
    if (batch.length < batchEntries && bytes < batchBytes) continue;
    yield batch;
    batch = [];
    bytes = 0;
  }
  if (batch.length > 0) yield batch;
}

/** A file's content as entries: the first makes the file, the others append to it. */
class Pieces {
  readonly #entry: NativeEntry;
  #chunks: Buffer[] = [];
  #length = 0;
  #append = false;

  constructor(entry: NativeEntry) {
    this.#entry = entry;
  }

  /** Takes a chunk; returns what came before, where that is enough for a piece. */
  add(chunk: Buffer): NativeEntry | undefined {
    const piece = this.#length >= pieceBytes ? this.end() : undefined;
    this.#chunks.push(chunk);
    this.#length += chunk.length;
    return piece;
  }

  end(): NativeEntry {
    const content = this.#chunks.length === 1 ? (this.#chunks[0] as Buffer) : Buffer.concat(this.#chunks);
    const piece = { ...this.#entry, content, ...(this.#append && { append: true }) };
    this.#chunks = [];
    this.#length = 0;
    this.#append = true;
    return piece;
  }
}

/** Gives tar-stream's errors, which are told apart by their text only, our words. */
function describeFailure(error: unknown, label: string, lastEntry: string | undefined): unknown {
  if (error instanceof LoopboxError || !(error instanceof Error) || error.name === 'AbortError') return error;
  if (isSystemError(error)) return explain(error, `read "${label}"`);
  if (lastEntry === undefined && !/end of data/i.test(error.message)) return damaged(label, 'it is not a tar archive', error);
  const where = lastEntry === undefined ? 'in its first entry' : `after entry "${lastEntry}"`;
  return damaged(label, `it is ${/end of data/i.test(error.message) ? 'cut short' : 'damaged'} ${where}`, error);
}

function damaged(label: string, state: string, cause?: unknown): LoopboxError {
  return new LoopboxError('ERR_LOOPBOX_CORRUPT', `Cannot import "${label}": ${state}`, { cause });
}
