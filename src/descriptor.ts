import { close } from 'node:fs';
import { promisify } from 'node:util';

const closeFd = promisify(close);

/** An open descriptor as a handle: closed once, and not used after that. */
export class Descriptor implements AsyncDisposable {
  #fd: number | undefined;

  constructor(fd: number) {
    this.#fd = fd;
  }

  get fd(): number {
    if (this.#fd === undefined) throw new Error(`The ${this.constructor.name} is closed`);
    return this.#fd;
  }

  /** Idempotent. */
  async close(): Promise<void> {
    const fd = this.#fd;
    this.#fd = undefined;
    if (fd !== undefined) await closeFd(fd);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}
