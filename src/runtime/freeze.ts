import { CleanupStack } from '../cleanup';
import type { Descriptor } from '../descriptor';
import { explain, explaining, LoopboxError } from '../errors';
import { abortable } from './abortable';
import { ContainerCgroups } from './cgroups';
import { FreezeGuardian } from './freeze-guardian';
import { openFileSystem } from './open-file-system';
import type { RunDirectory, RunRecord } from './run-directory';
import { clearMarker, thaw } from './thaw';

/** A freeze that lasts longer is ended by its guardian. */
const limitMs = 10_000;
/** What a sync leaves that took no longer is soon written. */
const shortSyncMs = 10;
const syncRounds = 4;
const closePatienceMs = 2000;

export interface Thaw {
  /** For how long writers had to wait: from the beginning of the freeze to the end of the thaw. */
  frozenMs: number;
  /** Whether nothing was written from `freeze` until this thaw; false where the time limit, or somebody else, has thawed the file system before. */
  held: boolean;
}

/**
 * Freezes a running container's file system for a moment. A guardian process, out of reach of the container's freezer and of what ends
 * the caller's session, ends the freeze when the caller dies, at whatever moment, or after 10 s. Where the guardian dies, the caller
 * ends it, and where both die, the next command that looks at the run (`thawLeftover`). Closing it thaws, too.
 */
export class Freezer implements AsyncDisposable {
  readonly #directory: RunDirectory;
  readonly #label: string;
  readonly #fileSystem: Descriptor;
  readonly #guardian: FreezeGuardian;
  readonly #signal: AbortSignal | undefined;
  readonly #thawedAlone: Promise<void>;
  /** When the freeze began that was not ended yet. */
  #begun: number | undefined;

  private constructor(directory: RunDirectory, label: string, fileSystem: Descriptor, guardian: FreezeGuardian, signal?: AbortSignal) {
    this.#directory = directory;
    this.#label = label;
    this.#fileSystem = fileSystem;
    this.#signal = signal;
    this.#guardian = guardian;
    this.#thawedAlone = this.#guardian.ended.then(() => this.#thawAlone());
    this.#thawedAlone.catch(() => {});
  }

  /**
   * Does beforehand what takes time: the freeze itself is then short. `signal` aborts whatever waits but `thaw`; a freeze is then ended by
   * closing. For the holder of the verb lock, of a run that was looked at (`inspectRun`).
   */
  static prepare(directory: RunDirectory, record: RunRecord, signal?: AbortSignal): Promise<Freezer> {
    return explaining(`freeze "${record.label}"`, async () => {
      signal?.throwIfAborted();
      await using cleanup = new CleanupStack();
      const cgroups = new ContainerCgroups(directory.cgroupParent).monitorFiles();
      const fileSystem = cleanup.use(await openFileSystem(record));
      const guardian = new FreezeGuardian(fileSystem.fd, directory.freezingPath, limitMs, cgroups);
      const freezer = cleanup.use(new Freezer(directory, record.label, fileSystem, guardian, signal));
      await freezer.#reply('ready');
      cleanup.disarm();
      return freezer;
    });
  }

  /** Writes out what is dirty, and again while much has become so meanwhile. Nobody has to wait for it. */
  sync(): Promise<void> {
    return explaining(`freeze "${this.#label}"`, async () => {
      for (let round = 0; round < syncRounds; round++) {
        this.#guardian.request('s');
        if ((await this.#reply('synced')) < shortSyncMs) return;
      }
    });
  }

  /** Returns once the file system is frozen. After a failure it is not: ERR_LOOPBOX_FAILED where it took longer than 10 s. */
  freeze(): Promise<void> {
    return explaining(`freeze "${this.#label}"`, async () => {
      this.#begun = performance.now();
      this.#guardian.request('f');
      await this.#reply('frozen');
    });
  }

  /** Ends the freeze. */
  async thaw(): Promise<Thaw> {
    if (this.#begun === undefined) throw new Error('Nothing is frozen');
    const begun = this.#begun;
    this.#guardian.request('t');
    const reply = await this.#guardian.reply();
    if (reply?.error) throw explain(reply.error, `thaw the file system of "${this.#label}"`);
    if (!reply) await this.#thawedAlone;
    this.#begun = undefined;
    return { frozenMs: reply ? reply.ms : performance.now() - begun, held: reply?.word === 'thawed' };
  }

  /** Idempotent. A guardian that waits for a host that does not write is left to itself: it thaws as soon as it can. */
  async close(): Promise<void> {
    if (await this.#guardian.close(closePatienceMs)) await this.#thawedAlone;
    await this.#fileSystem.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /** The milliseconds that the wanted reply tells; any other is an error. */
  async #reply(wanted: string): Promise<number> {
    const reply = await abortable(this.#guardian.reply(), this.#signal);
    if (reply && !reply.error && reply.word === wanted) return reply.ms;
    if (!reply) await this.#thawedAlone;
    this.#begun = undefined;
    if (reply?.error?.code === 'EBUSY') {
      throw new LoopboxError('ERR_LOOPBOX_IN_USE', `Cannot freeze "${this.#label}": somebody else has frozen its file system`, {
        cause: reply.error,
      });
    }
    if (reply?.error) throw reply.error;
    const why = reply ? `it took longer than ${limitMs / 1000} s to write what was dirty` : 'the process that was to hold it was killed';
    throw new LoopboxError('ERR_LOOPBOX_FAILED', `Cannot freeze "${this.#label}": ${why}`);
  }

  /** The guardian has ended: if that was before the thaw, nobody but us can do it now. */
  async #thawAlone(): Promise<void> {
    if (this.#begun === undefined) return;
    await thaw(this.#fileSystem);
    clearMarker(this.#directory.freezingPath);
  }
}
