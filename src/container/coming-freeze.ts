import { Freezer, type Thaw } from '../runtime/freeze';
import type { RunRecord } from '../runtime/run-directory';
import type { Target } from './target';

/** `body` is done while a file system is frozen, `ahead` right before, when it has been synced. */
export interface FrozenWork {
  ahead?: () => Promise<void>;
  body: () => Promise<void>;
}

/**
 * A freeze of a running container's file system that is to come. What takes time of it is begun at once, beside what else the caller has to
 * prepare. Closing it ends all of it.
 */
export class ComingFreeze implements AsyncDisposable {
  readonly #freezer: Promise<Freezer>;

  constructor(target: Target, run: RunRecord, signal: AbortSignal | undefined) {
    this.#freezer = Freezer.prepare(target.directory, run, signal);
    // Told to who waits for it.
    this.#freezer.catch(() => {});
  }

  /** Does a work while the file system is frozen, and synced right before. It is thawed on return, and where the work fails. */
  async around({ ahead, body }: FrozenWork): Promise<Thaw> {
    const freezer = await this.#freezer;
    try {
      await freezer.sync();
      await ahead?.();
      await freezer.freeze();
      await body();
      const { frozenMs, held } = await freezer.thaw();
      return { frozenMs: Math.round(frozenMs * 10) / 10, held };
    } catch (error) {
      await freezer.close();
      throw error;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const freezer = await this.#freezer.catch(() => undefined);
    await freezer?.close();
  }
}
