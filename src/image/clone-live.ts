import { native } from '../native';

/**
 * A clone of a file that is written to, in two steps. `ahead`, while it is: who writes never waits for more than a moment, and what comes of it
 * is of no one time. `finish`, when nobody writes: only what has changed since takes time, which on XFS is some 7 µs an extent, and a disk
 * that is written at random after each clone has one extent for each write.
 */
export class LiveClone {
  constructor(
    private readonly destination: number,
    private readonly source: number,
  ) {}

  async ahead(signal?: AbortSignal): Promise<void> {
    for (let position: number | null = 0; position !== null; ) {
      signal?.throwIfAborted();
      position = await native().shareSome(this.destination, this.source, position);
    }
  }

  /** EOPNOTSUPP, EXDEV or EINVAL where the host can't. */
  async finish(): Promise<void> {
    await native().reflink(this.destination, this.source);
  }
}
