import { execFileSync } from 'node:child_process';
import { Readable } from 'node:stream';
import { tarSource } from '../../../src/image/read-tar';
import type { NativeEntry } from '../../../src/native';
import type { WorkOptions } from '../../../src/progress';

export interface RawHeader {
  name: string | Buffer;
  type?: string;
  size?: number | Buffer;
  mode?: string;
  uid?: string | Buffer;
  gid?: string;
  mtime?: string | Buffer;
  linkname?: string;
  magic?: string;
  prefix?: string;
  devmajor?: string;
  devminor?: string;
}

/** One header block, any field of it as wrong as a test wants it. */
export function rawHeader(header: RawHeader): Buffer {
  const block = Buffer.alloc(512);
  const put = (value: string | Buffer, at: number) => Buffer.from(value as string).copy(block, at);
  put(header.name, 0);
  put(header.mode ?? '0000644', 100);
  put(header.uid ?? '0000000', 108);
  put(header.gid ?? '0000000', 116);
  const { size = 0 } = header;
  put(typeof size === 'number' ? size.toString(8).padStart(11, '0') : size, 124);
  put(header.mtime ?? '14500000000', 136);
  put(header.type ?? '0', 156);
  put(header.linkname ?? '', 157);
  put(header.magic ?? 'ustar\x0000', 257);
  put(header.devmajor ?? '0000000', 329);
  put(header.devminor ?? '0000000', 337);
  put(header.prefix ?? '', 345);
  block.fill(' ', 148, 156);
  const sum = block.reduce((total, byte) => total + byte, 0);
  put(`${sum.toString(8).padStart(6, '0')}\0 `, 148);
  return block;
}

/** An entry with its content, padded to blocks. */
export function entry(header: RawHeader, content: string | Buffer = ''): Buffer {
  const bytes = Buffer.from(content as string);
  return Buffer.concat([rawHeader({ size: bytes.length, ...header }), bytes, Buffer.alloc((512 - (bytes.length % 512)) % 512)]);
}

/** PAX records, values as bytes, in front of the next entry, or with type `g` of all that follow. */
export function pax(records: Record<string, string | Buffer>, type = 'x'): Buffer {
  const lines = Object.entries(records).map(([key, value]) => {
    const rest = Buffer.concat([Buffer.from(` ${key}=`), Buffer.from(value as string), Buffer.from('\n')]);
    let length = rest.length + 1;
    while (String(length).length + rest.length !== length) length = String(length).length + rest.length;
    return Buffer.concat([Buffer.from(String(length)), rest]);
  });
  return entry({ name: './PaxHeaders/x', type }, Buffer.concat(lines));
}

export const endOfArchive = Buffer.alloc(1024);

/** A whole archive of these entries. */
export function tar(...parts: Buffer[]): Buffer {
  return Buffer.concat([...parts, endOfArchive]);
}

/** All entries of an archive that comes in chunks of `chunkLength`. */
export async function readAll(bytes: Buffer, options: WorkOptions & { chunkLength?: number } = {}): Promise<NativeEntry[]> {
  const { chunkLength = 65536 } = options;
  const chunks = Array.from({ length: Math.ceil(bytes.length / chunkLength) }, (_, i) =>
    bytes.subarray(i * chunkLength, (i + 1) * chunkLength),
  );
  const entries: NativeEntry[] = [];
  for await (const batch of tarSource(Readable.from(chunks), 'x.tar', options, bytes.length).entries()) entries.push(...batch);
  return entries;
}

/** Each file's whole content, by path, with its pieces put together as the addon does. */
export function contents(entries: NativeEntry[]): Map<string, Buffer> {
  const files = new Map<string, Buffer>();
  for (const { path, type, content = Buffer.alloc(0), append } of entries) {
    if (type === 'file') files.set(path, append ? Buffer.concat([files.get(path) as Buffer, content]) : Buffer.from(content));
  }
  return files;
}

export function program(command: string, args: string[], input?: Buffer): Buffer {
  return execFileSync(command, args, { maxBuffer: 2 ** 28, stdio: ['pipe', 'pipe', 'ignore'], ...(input && { input }) });
}
