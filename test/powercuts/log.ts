import { appendFileSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';

/** As `Record` in native/test/record-log.h, from 1 on. */
const kinds = ['write', 'punch', 'setLength', 'extend', 'sync', 'end', 'create', 'link', 'rename', 'unlink', 'mark'] as const;
type Kind = (typeof kinds)[number];

/** An entry of the log. */
export interface Entry {
  kind: Kind;
  inode: number;
  offset: number;
  length: number;
  id: bigint;
  after: bigint;
  path: string;
  other: string;
  data: Buffer;
}

const headerBytes = 64;

/** What a program does below a directory is logged, from its start to its end, its children's doings too. */
export class Recording {
  constructor(
    readonly directory: string,
    private readonly path: string,
  ) {}

  /** For the program's environment. */
  get environment(): Record<string, string> {
    return {
      LD_PRELOAD: join(import.meta.dirname, '../../build/test/loopbox-record.so'),
      LOOPBOX_RECORD: this.directory,
      LOOPBOX_RECORD_LOG: this.path,
      // Its file operations would bypass the C library.
      UV_USE_IO_URING: '0',
    };
  }

  /** Adds an entry of our own. */
  mark(path: string): void {
    const header = Buffer.alloc(headerBytes);
    const text = Buffer.from(path);
    header.writeUInt32LE(headerBytes + text.length, 0);
    header.writeUInt32LE(kinds.indexOf('mark') + 1, 4);
    header.writeUInt32LE(text.length, 8);
    appendFileSync(this.path, Buffer.concat([header, text]));
  }

  /** All entries until now; the log is empty then. */
  take(): Entry[] {
    appendFileSync(this.path, '');
    const entries = parseLog(readFileSync(this.path));
    rmSync(this.path);
    return entries;
  }
}

function parseLog(log: Buffer): Entry[] {
  const entries: Entry[] = [];
  for (let at = 0; at < log.length; at += log.readUInt32LE(at)) {
    const path = at + headerBytes;
    const other = path + log.readUInt32LE(at + 8);
    const data = other + log.readUInt32LE(at + 12);
    entries.push({
      kind: kinds[log.readUInt32LE(at + 4) - 1] as Kind,
      inode: Number(log.readBigUInt64LE(at + 24)),
      offset: Number(log.readBigUInt64LE(at + 32)),
      length: Number(log.readBigUInt64LE(at + 40)),
      id: log.readBigUInt64LE(at + 48),
      after: log.readBigUInt64LE(at + 56),
      path: log.toString('utf8', path, other),
      other: log.toString('utf8', other, data),
      data: log.subarray(data, data + log.readUInt32LE(at + 16)),
    });
  }
  return entries;
}
