import { spawn } from 'node:child_process';
import { pipeline } from 'node:stream/promises';
import { createGunzip } from 'node:zlib';
import { LoopboxError } from '../errors';
import { missingProgram, programEnvironment } from '../process';
import { identifyContent } from './identify-content';

type Bytes = AsyncIterable<Buffer>;

const chunkLength = 1024 * 1024;

/**
 * The bytes behind gzip, xz or zstd, told by their magic, or the bytes themselves. `head` is the first of `bytes`.
 * CORRUPT for damaged data, NOT_SUPPORTED for other compressions and where the xz or zstd program is missing.
 */
export function decompress(bytes: Bytes, head: Buffer, label: string): Bytes {
  const content = identifyContent(head);
  if (!content || content.kind === 'tar') return bytes;
  if (content.name === 'gzip') return throughGunzip(bytes, label);
  // Node 20 has neither.
  if (content.name === 'xz' || content.name === 'zstd') return throughProgram(content.name, bytes, label);
  throw new LoopboxError('ERR_LOOPBOX_NOT_SUPPORTED', `Cannot import "${label}": it is ${content.name}, not a tar archive`);
}

async function* throughGunzip(bytes: Bytes, label: string): AsyncGenerator<Buffer> {
  const gunzip = createGunzip({ chunkSize: chunkLength });
  const fed = settle(pipeline(bytes, gunzip));
  try {
    yield* gunzip;
    const failure = await fed;
    if (failure) throw failure;
  } catch (error) {
    throw (error as NodeJS.ErrnoException).code?.startsWith('Z_') ? damaged(label, 'gzip', error) : error;
  } finally {
    gunzip.destroy();
    await fed;
  }
}

async function* throughProgram(command: 'xz' | 'zstd', bytes: Bytes, label: string): AsyncGenerator<Buffer> {
  const child = spawn(command, ['-dcq'], { stdio: ['pipe', 'pipe', 'ignore'], env: programEnvironment() });
  const ended = new Promise<number | Error>((resolve) => {
    child.once('error', (error: NodeJS.ErrnoException) => resolve(error.code === 'ENOENT' ? missingProgram(command, error) : error));
    child.once('close', (code) => resolve(code ?? 128));
  });
  const fed = settle(pipeline(bytes, child.stdin));
  try {
    yield* child.stdout;
    const end = await ended;
    if (typeof end !== 'number') throw end;
    const failure = await fed;
    // A program that finds damage closes its input early: its exit code says more than the broken pipe.
    if (failure && !isBrokenPipe(failure)) throw failure;
    if (end !== 0) throw damaged(label, command);
  } finally {
    child.kill('SIGKILL');
    child.stdin.destroy();
    await Promise.all([fed, ended]);
  }
}

/** The error that a promise ends with, if it does; never rejects, so it may be looked at late. */
function settle(promise: Promise<void>): Promise<unknown> {
  return promise.then(
    () => undefined,
    (error: unknown) => error,
  );
}

function isBrokenPipe(error: unknown): boolean {
  return ['EPIPE', 'ECONNRESET', 'ERR_STREAM_PREMATURE_CLOSE'].includes((error as NodeJS.ErrnoException).code ?? '');
}

function damaged(label: string, format: string, cause?: unknown): LoopboxError {
  return new LoopboxError('ERR_LOOPBOX_CORRUPT', `Cannot import "${label}": its ${format} data is damaged or cut short`, { cause });
}
