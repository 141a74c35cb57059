import { LoopboxError } from '../errors';
import type { Config, Limits } from '../image/manifest';
import { MiB, parseSize } from '../units';

/** A container's config as users write it: each key as its flag has it. */
export interface ConfigInput {
  /** A size, or `none` for no limit. */
  memory?: string | undefined;
  /** CPUs, fractions allowed, or `none`. */
  cpus?: string | undefined;
  /** Processes, or `none`. */
  pids?: string | undefined;
  hostname?: string | undefined;
  /** `K=V` sets, `K-` removes. */
  env?: string[] | undefined;
  label?: string[] | undefined;
  workdir?: string | undefined;
  user?: string | undefined;
  command?: string[] | undefined;
}

/** A checked change of a config. A limit of null takes the limit away; a variable of null removes it. */
export interface ConfigChange {
  limits: { [K in keyof Limits]?: Limits[K] | null };
  environment: Record<string, string | null>;
  labels: Record<string, string | null>;
  hostname?: string;
  workdir?: string;
  user?: string;
  command?: string[];
}

/** Checks all of `input` and reports every problem at once as ERR_LOOPBOX_USAGE. */
export function parseConfigInput(input: ConfigInput): ConfigChange {
  const problems: string[] = [];
  const check = <T>(flag: string, text: string, wanted: string, value: T | undefined): T | undefined => {
    if (value === undefined) problems.push(`--${flag} "${text}" is not ${wanted}`);
    return value;
  };
  const limit = (flag: string, text: string | undefined, wanted: string, parse: (text: string) => number | undefined) => {
    if (text === undefined) return undefined;
    return text === 'none' ? null : check(flag, text, `${wanted} or "none"`, parse(text));
  };
  const text = (flag: string, value: string | undefined, wanted: string, pattern: RegExp) =>
    value === undefined ? undefined : check(flag, value, wanted, pattern.test(value) ? value : undefined);
  const pairs = (flag: string, list: string[] | undefined, key: RegExp) => {
    const result: Record<string, string | null> = {};
    for (const item of list ?? []) {
      const pair = parsePair(item, key);
      if (check(flag, item, 'KEY=VALUE (or KEY- to remove it)', pair) && pair) result[pair[0]] = pair[1];
    }
    return result;
  };

  const change = withoutUndefined({
    limits: withoutUndefined({
      memoryBytes: limit('memory', input.memory, 'a size of at least 6M', parseMemory),
      cpus: limit('cpus', input.cpus, 'a number from 0.01 to 4096', parseCpus),
      pids: limit('pids', input.pids, 'a number from 1 to 4194304', parsePids),
    }),
    environment: pairs('env', input.env, /^[^=\0\s]+$/),
    labels: pairs('label', input.label, /^[^=\0\s]+$/),
    hostname: text('hostname', input.hostname, 'a host name', /^[A-Za-z0-9]([A-Za-z0-9.-]{0,62}[A-Za-z0-9])?$/),
    workdir: text('workdir', input.workdir, 'an absolute path', /^\/[^\0]*$/),
    user: text('user', input.user, 'USER or UID, with :GROUP or :GID', /^[A-Za-z0-9_][A-Za-z0-9._-]*\$?(:[A-Za-z0-9_][A-Za-z0-9._-]*)?$/),
    command: input.command,
  }) as ConfigChange;
  if (problems.length > 0) throw new LoopboxError('ERR_LOOPBOX_USAGE', `Cannot use the given config: ${problems.join('; ')}`);
  return change;
}

/** The config after a change. Fields of a null value are gone. */
export function applyConfigChange(config: Config, change: ConfigChange): Config {
  const { limits: _, environment, labels, ...rest } = change;
  return {
    ...config,
    ...rest,
    limits: applyLimits(config.limits, change),
    environment: merge(config.environment, environment),
    labels: merge(config.labels, labels),
  };
}

/** The limits after a change. */
export function applyLimits(limits: Limits, change: ConfigChange): Limits {
  return merge(limits, change.limits);
}

function merge<T extends object>(base: T, change: object): T {
  return Object.fromEntries(Object.entries({ ...base, ...change }).filter(([, value]) => value !== null)) as T;
}

function withoutUndefined(object: object): object {
  return Object.fromEntries(Object.entries(object).filter(([, value]) => value !== undefined));
}

function parsePair(text: string, key: RegExp): [string, string | null] | undefined {
  const at = text.indexOf('=');
  const pair: [string, string | null] = at >= 0 ? [text.slice(0, at), text.slice(at + 1)] : [text.replace(/-$/, ''), null];
  if (at < 0 && !text.endsWith('-')) return undefined;
  return key.test(pair[0]) && !text.includes('\0') ? pair : undefined;
}

function parseMemory(text: string): number | undefined {
  const bytes = parseSize(text);
  // Below about 6 MiB the runtime itself does not fit into the container's cgroup while it starts it.
  return bytes !== undefined && bytes >= 6 * MiB ? bytes : undefined;
}

function parseCpus(text: string): number | undefined {
  const cpus = /^\d*\.?\d+$/.test(text) ? Number(text) : Number.NaN;
  return cpus >= 0.01 && cpus <= 4096 ? cpus : undefined;
}

function parsePids(text: string): number | undefined {
  const pids = /^\d+$/.test(text) ? Number(text) : Number.NaN;
  return pids >= 1 && pids <= 4194304 ? pids : undefined;
}
