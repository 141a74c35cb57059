import { extract as createExtract, type Extract } from 'tar-stream';
import type { TarHeader } from './tar-entry';

/** An archive's entry as tar-stream yields it; its content must be read, or drained by `resume`. */
type ArchiveEntry = AsyncIterable<Buffer> & { header: TarHeader; resume(): void };

/** tar-stream's parser, with what its types leave out. */
type TarStream = Extract & {
  /** PAX records for all that follow: kept to itself, and applied only to entries with records of their own. */
  _paxGlobal: Record<string, string> | null;
};

/** Archives older than POSIX have no magic; the header's checksum has to do. */
const extractOptions = { allowUnknownFormat: true } as object;

/** tar-stream fed from an iterable, with what it keeps from its users: global records, and whether the archive was whole. */
export class TarParser implements AsyncDisposable {
  readonly #extract = createExtract(extractOptions) as TarStream;
  readonly #fed: Promise<void>;
  #totalBytes = 0;
  #lastBlock: Buffer = Buffer.alloc(0);

  /** Begins to read `bytes`; what fails there fails `entries`. */
  constructor(bytes: AsyncIterable<Buffer>) {
    this.#fed = this.#feed(bytes);
  }

  entries(): AsyncIterable<ArchiveEntry> {
    return this.#extract as AsyncIterable<unknown> as AsyncIterable<ArchiveEntry>;
  }

  /** PAX records that hold for the entry that was yielded last, and all after it. */
  get globalRecords(): Record<string, string> {
    return this.#extract._paxGlobal ?? {};
  }

  /** Whether zeroes follow the last entry. tar-stream takes an archive that was cut after any entry for a whole one. */
  isClosedAfter(endOfLastEntry: number): boolean {
    return this.#totalBytes >= endOfLastEntry + 512 && this.#lastBlock.every((byte) => byte === 0);
  }

  async #feed(bytes: AsyncIterable<Buffer>): Promise<void> {
    try {
      for await (const chunk of bytes) {
        this.#totalBytes += chunk.length;
        this.#lastBlock = chunk.length >= 512 ? chunk.subarray(-512) : Buffer.concat([this.#lastBlock, chunk]).subarray(-512);
        if (!this.#extract.write(chunk)) await this.#drained();
        if (this.#extract.destroyed) return;
      }
      this.#extract.end(undefined);
    } catch (error) {
      this.#extract.destroy(error as Error);
    }
  }

  #drained(): Promise<void> {
    return new Promise((resolve) => {
      const done = () => {
        this.#extract.off('drain', done).off('close', done);
        resolve();
      };
      this.#extract.on('drain', done).on('close', done);
      if (this.#extract.destroyed) done();
    });
  }

  /** Stops; returns when `bytes` is no longer read. Its source must end by itself or be destroyed before. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#extract.destroy(null);
    await this.#fed;
  }
}
