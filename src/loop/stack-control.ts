import { fstatSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { explain, isSystemError, LoopboxError } from '../errors';
import { native } from '../native';
import { serverRefusal } from './server-refusal';

/** A layer as its server knows it; the slot is its number there for as long as it is part of the chain. */
export interface StackLayer {
  slot: number;
  /** As stat has them. */
  device: bigint;
  inode: bigint;
  /** Whether it is read past the page cache: the top, and what was sealed during this attachment. */
  direct: boolean;
}

export interface StackStatus {
  /** Process ids. */
  worker: number;
  keeper: number;
  sizeBytes: number;
  /** Whether a flush has failed: every later one fails, too. */
  failed: boolean;
  /** Whether writes wait for space on the host. */
  held: boolean;
  top: number;
  /** Bottom first. */
  layers: StackLayer[];
  counters: Record<string, number>;
}

export interface SwitchRequest {
  /** The prepared top, open for direct I/O, its attachment lock held. The server keeps this open file description. */
  nextFd: number;
  directoryFd: number;
  /** Names in the directory: today's top becomes `kept`, `next` becomes `top`. */
  names: { old: string; kept: string; next: string; top: string };
  mapOffset: number;
  dataOffset: number;
  /** The prepared top has none of the disk's blocks from this one on: no more of its map is read while the guest waits. */
  ownedEnd: number;
}

type Values = Record<string, number | string>;

interface Reply {
  pairs: [key: string, value: string][];
  fds: number[];
}

/** Requests are answered at once, but for those that flush: a host may take its time for that. */
const patienceMs = 300_000;
/** A worker that died is replaced within milliseconds; one that dies again and again is given up. */
const attempts = 25;
const pauseMs = 20;

/**
 * The control socket of a running storage server. Each request is one that may be repeated, and is, where the server's worker dies over it.
 * Throws ERR_LOOPBOX_WRONG_STATE where no server runs any more; a refusal keeps its errno in the cause.
 */
export class StackControl {
  readonly path: string;
  readonly #label: string;

  constructor(path: string, label: string) {
    this.path = path;
    this.#label = label;
  }

  async status(): Promise<StackStatus> {
    const { pairs } = await this.#ask('status');
    const values = new Map(pairs);
    const number = (key: string) => toNumber(values.get(key));
    return {
      worker: number('worker'),
      keeper: number('keeper'),
      sizeBytes: number('size'),
      failed: number('failed') !== 0,
      held: number('held') !== 0,
      top: number('top'),
      layers: pairs.filter(([key]) => key === 'layer').map(([, value]) => parseLayer(value)),
      counters: Object.fromEntries(pairs.flatMap(([key, value]) => (key.startsWith('count-') ? [[key.slice(6), toNumber(value)]] : []))),
    };
  }

  /** A copy of each layer's descriptor, bottom first, with its slot. They are the caller's to close. */
  async layers(): Promise<{ slot: number; fd: number }[]> {
    const { pairs, fds } = await this.#ask('layers');
    const slots = pairs.filter(([key]) => key === 'order').map(([, value]) => toNumber(value));
    return slots.map((slot, index) => ({ slot, fd: fds[index] ?? -1 }));
  }

  /** Drains, flushes, renames and syncs the directory, then writes go to the prepared top. Returns its slot. */
  async switchTop({ nextFd, directoryFd, names, mapOffset, dataOffset, ownedEnd }: SwitchRequest): Promise<number> {
    const { dev, ino } = fstatSync(nextFd, { bigint: true });
    const isNext = (layer: StackLayer) => layer.device === dev && layer.inode === ino;
    const done = (status: StackStatus) => {
      const top = status.layers.at(-1);
      return top && isNext(top) ? top.slot : undefined;
    };
    const values = { ...names, map: mapOffset, data: dataOffset, owned: ownedEnd };
    return await this.#until(done, async () => toNumber(first(await this.#askOnce('switch', values, [nextFd, directoryFd]), 'top')));
  }

  /** A whole flush round: what was written is durable, and so is its map. */
  async flush(): Promise<void> {
    await this.#ask('flush');
  }

  /**
   * Copies into the live top, from block `from` on, what it lacks of the layer right below it, at most 64 MiB. Returns the block to go on
   * from, or undefined when all is there and durable.
   */
  async absorb(slot: number, from: number): Promise<number | undefined> {
    const next = new Map((await this.#ask('absorb', { slot, from })).pairs).get('next');
    return next === undefined ? undefined : toNumber(next);
  }

  /** What slot owns of the blocks below `to` is read from `into` from now on, the image right below or the layer right above, which has it all. */
  async moved(slot: number, into: number, to: number): Promise<void> {
    await this.#ask('moved', { slot, into, to });
  }

  /** Lets go of a layer that no read needs any more; its refusal has EBUSY as its cause. */
  async drop(slot: number): Promise<void> {
    const done = (status: StackStatus) => (status.layers.some((layer) => layer.slot === slot) ? undefined : true);
    await this.#until(done, () => this.#askOnce('drop', { slot }));
  }

  async grow(sizeBytes: number): Promise<void> {
    await this.#ask('grow', { size: sizeBytes });
  }

  /** Writes that wait for space on the host fail, and so do later ones that find none. */
  async release(): Promise<void> {
    await this.#ask('release');
  }

  /** Lets go of the guard loop device: the image has become one that nobody can write to by mistake. */
  async unguard(): Promise<void> {
    await this.#ask('unguard');
  }

  #ask(verb: string, values: Values = {}): Promise<Reply> {
    return this.#repeat(() => this.#askOnce(verb, values));
  }

  /** Asks; where the worker died over it, asks again unless the status says that it was done all the same. */
  #until<T, R>(done: (status: StackStatus) => T | undefined, ask: () => Promise<R>): Promise<T | R> {
    let isAgain = false;
    return this.#repeat<T | R>(async () => {
      const result = isAgain ? done(await this.status()) : undefined;
      isAgain = true;
      return result ?? (await ask());
    });
  }

  async #repeat<T>(body: () => Promise<T>): Promise<T> {
    for (let attempt = 1; ; attempt++) {
      try {
        return await body();
      } catch (error) {
        if (attempt === attempts || !isSystemError(error, 'ECONNRESET', 'EPIPE', 'EAGAIN')) throw this.#explain(error);
      }
      await sleep(pauseMs);
    }
  }

  #explain(error: unknown): unknown {
    const action = `ask the storage server of "${this.#label}"`;
    if (!isSystemError(error, 'ENOENT', 'ECONNREFUSED') || error.syscall !== 'connect') return explain(error, action);
    return new LoopboxError('ERR_LOOPBOX_WRONG_STATE', `Cannot ${action}: it does not run`, { hint: 'loopbox ps', cause: error });
  }

  async #askOnce(verb: string, values: Values, fds: number[] = []): Promise<Reply> {
    const lines = Object.entries(values).map(([key, value]) => `${key}=${value}\n`);
    const { reply, fds: received } = await native().controlCall(this.path, `loopbox 1 ${verb}\n${lines.join('')}`, fds, patienceMs);
    const [head = '', ...rest] = reply.split('\n');
    if (head !== 'ok') throw serverRefusal(verb, head, this.path);
    const pairs = rest.filter(Boolean).map((line): [string, string] => {
      const equals = line.indexOf('=');
      return [line.slice(0, equals), line.slice(equals + 1)];
    });
    return { pairs, fds: received };
  }
}

function parseLayer(value: string): StackLayer {
  const [slot, device = '', inode = '', mode] = value.split(' ');
  return { slot: toNumber(slot), device: BigInt(device), inode: BigInt(inode), direct: mode === 'direct' };
}

function first(reply: Reply, key: string): string | undefined {
  return reply.pairs.find(([name]) => name === key)?.[1];
}

function toNumber(value: string | undefined): number {
  const number = Number(value);
  if (value === undefined || !Number.isSafeInteger(number)) throw new Error(`The storage server answered "${value}" where a number is due`);
  return number;
}
