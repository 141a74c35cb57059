import { LoopboxError } from '../errors';
import type { AttachChoice, Config, Limits, SnapshotHooks } from '../image/manifest';
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
  /** `auto`, `direct` or `stack`. */
  attach?: string | undefined;
  /** `auto` or `never`. */
  settle?: string | undefined;
  /** Shell commands, or `none`. */
  hookPre?: string | undefined;
  hookPost?: string | undefined;
  /** Seconds, or `none` for the usual time. */
  hookTimeout?: string | undefined;
}

/** A checked change of a config. A limit or a hook of null takes it away; a variable of null removes it. */
export interface ConfigChange {
  limits: { [K in keyof Limits]?: Limits[K] | null };
  environment: Record<string, string | null>;
  labels: Record<string, string | null>;
  hooks?: { [K in keyof SnapshotHooks]?: SnapshotHooks[K] | null };
  attach?: AttachChoice;
  settle?: 'auto' | 'never';
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
  const orNone = <T>(flag: string, text: string | undefined, wanted: string, parse: (text: string) => T | undefined) => {
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
      memoryBytes: orNone('memory', input.memory, 'a size of at least 6M', parseMemory),
      cpus: orNone('cpus', input.cpus, 'a number from 0.01 to 4096', parseCpus),
      pids: orNone('pids', input.pids, 'a number from 1 to 4194304', parsePids),
    }),
    environment: pairs('env', input.env, /^[^=\0\s]+$/),
    labels: pairs('label', input.label, /^[^=\0\s]+$/),
    hostname: text('hostname', input.hostname, 'a host name', /^[A-Za-z0-9]([A-Za-z0-9.-]{0,62}[A-Za-z0-9])?$/),
    workdir: text('workdir', input.workdir, 'an absolute path', /^\/[^\0]*$/),
    user: text('user', input.user, 'USER or UID, with :GROUP or :GID', /^[A-Za-z0-9_][A-Za-z0-9._-]*\$?(:[A-Za-z0-9_][A-Za-z0-9._-]*)?$/),
    command: input.command,
    attach: text('attach', input.attach, 'auto, direct or stack', /^(auto|direct|stack)$/),
    settle: text('settle', input.settle, 'auto or never', /^(auto|never)$/),
    hooks: orUndefined(
      withoutUndefined({
        pre: orNone('hook-pre', input.hookPre, 'a command', parseCommand),
        post: orNone('hook-post', input.hookPost, 'a command', parseCommand),
        timeoutSeconds: orNone('hook-timeout', input.hookTimeout, 'a number of seconds from 0.1 to 86400', parseTimeout),
      }),
    ),
  }) as ConfigChange;
  if (problems.length > 0) throw new LoopboxError('ERR_LOOPBOX_USAGE', `Cannot use the given config: ${problems.join('; ')}`);
  return change;
}

/** The config after a change. Fields of a null value are gone. */
export function applyConfigChange(config: Config, change: ConfigChange): Config {
  const { limits: _, environment, labels, hooks, ...rest } = change;
  const { hooks: hooksBefore, ...before } = config;
  const hooksAfter = orUndefined(merge(hooksBefore ?? {}, hooks ?? {}));
  return {
    ...before,
    ...rest,
    limits: applyLimits(config.limits, change),
    environment: merge(config.environment, environment),
    labels: merge(config.labels, labels),
    ...(hooksAfter && { hooks: hooksAfter }),
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

function orUndefined<T extends object>(object: T): T | undefined {
  return Object.keys(object).length > 0 ? object : undefined;
}

function parseCommand(text: string): string | undefined {
  return text.trim() !== '' && !text.includes('\0') ? text : undefined;
}

function parseTimeout(text: string): number | undefined {
  const seconds = /^\d*\.?\d+$/.test(text) ? Number(text) : Number.NaN;
  return seconds >= 0.1 && seconds <= 86_400 ? seconds : undefined;
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
