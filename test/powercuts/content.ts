import { closeSync, fstatSync, ftruncateSync, openSync, readSync, writeSync } from 'node:fs';

export const pageBytes = 4096;
/** What a disk writes as a whole. */
export const sectorBytes = 512;

const zeroes = Buffer.alloc(pageBytes);

/** A file's content in memory: pages, those that are missing are zeroes. Copies share pages, which are never changed in place. */
export class Content {
  static #versions = 0;
  /** The same for copies in which nothing has changed. */
  #version = ++Content.#versions;

  private constructor(
    public size: number,
    private readonly pages: Map<number, Buffer>,
    private readonly below: Content | undefined,
  ) {}

  static empty(): Content {
    return new Content(0, new Map(), undefined);
  }

  static ofFile(path: string): Content {
    const fd = openSync(path, 'r');
    try {
      const content = new Content(fstatSync(fd).size, new Map(), undefined);
      const chunk = Buffer.alloc(1 << 20);
      for (let start = 0; start < content.size; start += chunk.length) {
        const count = readSync(fd, chunk, 0, chunk.length, start);
        chunk.fill(0, count);
        for (let at = 0; at < count; at += pageBytes) {
          const page = chunk.subarray(at, at + pageBytes);
          if (!page.equals(zeroes)) content.pages.set((start + at) / pageBytes, Buffer.from(page));
        }
      }
      return content;
    } finally {
      closeSync(fd);
    }
  }

  /** Changes of the copy are its own. This must not change while the copy is used. */
  copy(): Content {
    const copy = new Content(this.size, new Map(), this);
    copy.#version = this.#version;
    return copy;
  }

  get version(): number {
    return this.#version;
  }

  /** A copy that nothing changes any more. */
  flat(): Content {
    const pages = new Map<number, Buffer>();
    for (const index of this.#indexes(new Set())) pages.set(index, this.page(index));
    return new Content(this.size, pages, undefined);
  }

  page(index: number): Buffer {
    if (index * pageBytes >= this.size) return zeroes;
    return this.#find(index) ?? zeroes;
  }

  /** Undefined for a page of zeroes that nothing was written to. */
  #find(index: number): Buffer | undefined {
    return this.pages.get(index) ?? (this.below && this.below.#find(index));
  }

  read(position: number, length: number): Buffer {
    const bytes = Buffer.alloc(Math.max(0, Math.min(length, this.size - position)));
    for (let done = 0; done < bytes.length; ) {
      const at = (position + done) % pageBytes;
      done += this.page(Math.floor((position + done) / pageBytes)).copy(bytes, done, at, pageBytes);
    }
    return bytes;
  }

  write(position: number, bytes: Buffer): void {
    this.#version = ++Content.#versions;
    this.size = Math.max(this.size, position + bytes.length);
    for (let done = 0; done < bytes.length; ) {
      const index = Math.floor((position + done) / pageBytes);
      const at = position + done - index * pageBytes;
      const count = Math.min(pageBytes - at, bytes.length - done);
      if (count === pageBytes) {
        this.pages.set(index, bytes.subarray(done, done + count));
      } else {
        const page = Buffer.from(this.page(index));
        bytes.copy(page, at, done, done + count);
        this.pages.set(index, page);
      }
      done += count;
    }
  }

  zero(position: number, length: number): void {
    this.#version = ++Content.#versions;
    const end = Math.min(position + length, this.size);
    for (let at = position; at < end; ) {
      const next = Math.min(end, (Math.floor(at / pageBytes) + 1) * pageBytes);
      if (next - at === pageBytes) this.pages.set(at / pageBytes, zeroes);
      else this.write(at, zeroes.subarray(0, next - at));
      at = next;
    }
  }

  setLength(length: number): void {
    this.#version = ++Content.#versions;
    const old = this.size;
    // What a file was cut of does not come back when it grows.
    if (length < old) this.zero(length, old - length);
    this.size = length;
  }

  /** Makes a sparse file of it. */
  writeFile(path: string): void {
    const fd = openSync(path, 'wx', 0o600);
    try {
      ftruncateSync(fd, this.size);
      for (const index of this.#indexes(new Set())) {
        const start = index * pageBytes;
        const page = this.page(index);
        if (page !== zeroes && start < this.size) writeSync(fd, page, 0, Math.min(pageBytes, this.size - start), start);
      }
    } finally {
      closeSync(fd);
    }
  }

  /** The first page that differs. */
  firstDifference(other: Content): number | undefined {
    if (this.size !== other.size) return Math.min(this.size, other.size) / pageBytes;
    for (const index of other.#indexes(this.#indexes(new Set()))) if (!this.page(index).equals(other.page(index))) return index;
    return undefined;
  }

  #indexes(found: Set<number>): Set<number> {
    for (const index of this.pages.keys()) found.add(index);
    return this.below ? this.below.#indexes(found) : found;
  }
}
