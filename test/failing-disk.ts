import { existsSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { temporaryDirectory } from './temporary';

/** What fails of what a program does to files; the kinds are those of native/test/fail-calls.cc. */
export interface Failure {
  /** All that changes something, unless told. */
  operations?: string[];
  /** A pattern of the shell, of paths; of a new name where it is about names. */
  path: string;
  /** Of a file's bytes, those from `begin` until `end`; all unless told. */
  begin?: number;
  end?: number;
  /** Which of them, counted from 1; all unless told. */
  first?: number;
  last?: number;
  /** EIO unless told. Of the storage server's own reads and writes it is always some other error than want of space. */
  error?: keyof typeof numbers;
}

export const changes = ['write', 'sync', 'punch', 'length', 'create', 'link', 'rename', 'unlink'];
const numbers = { EIO: 5, ENOSPC: 28 };

/** A disk that fails as it is told, for programs that have `environment`: from one operation on to the next. */
export class FailingDisk {
  private constructor(private readonly rules: string) {}

  static async create(): Promise<FailingDisk> {
    return new FailingDisk(join(await temporaryDirectory(), 'rules'));
  }

  get environment(): Record<string, string> {
    return {
      LD_PRELOAD: join(import.meta.dirname, '../build/test/loopbox-fail.so'),
      LOOPBOX_FAIL: this.rules,
      // Its file operations would bypass the C library.
      UV_USE_IO_URING: '0',
    };
  }

  /** From now on this fails, and nothing else; it is counted anew. */
  fail(...failures: Failure[]): void {
    this.mend();
    const lines = failures.map((failure) => {
      const { operations = changes, path, begin = 0, end = Number.MAX_SAFE_INTEGER, first = 1, last = 1e9, error = 'EIO' } = failure;
      return [operations.join(','), path, begin, end, first, last, numbers[error]].join(' ');
    });
    for (const index of failures.keys()) rmSync(`${this.rules}.${index}`, { force: true });
    rmSync(`${this.rules}.failed`, { force: true });
    writeFileSync(this.rules, `${lines.join('\n')}\n`);
  }

  /** Counts what is done, and lets it succeed. */
  count(failure: Failure): void {
    this.fail({ ...failure, first: 1e9 });
  }

  /** How often there was something that the first of the failures is about. */
  get counted(): number {
    return statSync(`${this.rules}.0`, { throwIfNoEntry: false })?.size ?? 0;
  }

  /** What has failed, `OPERATION PATH OFFSET` each. */
  get failed(): string[] {
    const log = `${this.rules}.failed`;
    return existsSync(log) ? readFileSync(log, 'utf8').trim().split('\n') : [];
  }

  /** From now on nothing fails. */
  mend(): void {
    rmSync(this.rules, { force: true });
  }
}
