import { type ErrorCode, LoopboxError } from '../errors';

/**
 * Checks for untrusted JSON, declared as values. Written here because the ready-made library costs 5 ms to load, on the way of every
 * start. A check returns the value it was given a description of, or throws naming the key and what it must be.
 */
export type Check<T> = (value: unknown, key: string, context: Context) => T;

export interface Context {
  /** What the value is part of, as the error says it: `Cannot read the manifest of "web.img"`. */
  action: string;
  code: ErrorCode;
  /** Keys that the schema does not know, as `config.mounts`. */
  ignored: string[];
  /** Whether such keys stay in the result. */
  keepUnknown: boolean;
}

type Shape = Record<string, Check<unknown>>;
type Checked<S extends Shape> = { [K in keyof S]: S[K] extends Check<infer T> ? T : never };

/** Throws the error of a key that is not what it must be. */
export function refuse(key: string, wanted: string, context: Context): never {
  throw new LoopboxError(context.code, `${context.action}: "${key}" must be ${wanted}`);
}

export function text(wanted: string, pattern: RegExp): Check<string> {
  return (value, key, context) => (typeof value === 'string' && pattern.test(value) ? value : refuse(key, wanted, context));
}

export function number(wanted: string, accepts: (value: number) => boolean): Check<number> {
  return (value, key, context) => (typeof value === 'number' && accepts(value) ? value : refuse(key, wanted, context));
}

export function oneOf<const T extends string>(...words: T[]): Check<T> {
  const wanted = words.map((word) => `"${word}"`).join(' or ');
  return (value, key, context) => words.find((word) => word === value) ?? refuse(key, wanted, context);
}

export function list<T>(wanted: string, item: Check<T>): Check<T[]> {
  return (value, key, context) =>
    Array.isArray(value) ? value.map((one, index) => item(one, `${key}[${index}]`, context)) : refuse(key, wanted, context);
}

/** An object whose keys are data. */
export function record<T>(keyPattern: RegExp, item: Check<T>): Check<Record<string, T>> {
  return (value, key, context) => {
    const entries = Object.entries(plainObject(value, key, context));
    const bad = entries.find(([name]) => !keyPattern.test(name));
    if (bad) refuse(keyOf(key, bad[0]), 'a valid name', context);
    return Object.fromEntries(entries.map(([name, one]) => [name, item(one, keyOf(key, name), context)]));
  };
}

/** An object with known keys. Unknown ones are named in `context.ignored`. */
export function object<R extends Shape, O extends Shape>(required: R, optional: O): Check<Checked<R> & Partial<Checked<O>>> {
  return (value, key, context) => {
    const result: [string, unknown][] = [];
    const source = plainObject(value, key, context);
    for (const name of Object.keys(required)) if (!Object.hasOwn(source, name)) refuse(keyOf(key, name), 'there', context);
    for (const [name, one] of Object.entries(source)) {
      const check = Object.hasOwn(required, name) ? required[name] : Object.hasOwn(optional, name) ? optional[name] : undefined;
      const checked = check?.(one, keyOf(key, name), context);
      if (checked === undefined) context.ignored.push(keyOf(key, name));
      if (checked !== undefined || context.keepUnknown) result.push([name, checked ?? one]);
    }
    return Object.fromEntries(result) as Checked<R> & Partial<Checked<O>>;
  };
}

/** An object with at least one known key; another is somebody else's of the same name, and means as little as an unknown key. */
export function ours<O extends Shape>(optional: O): Check<Partial<Checked<O>>> {
  const check = object({}, optional);
  return (value, key, context) => {
    const isOurs = Object.keys(plainObject(value, key, context)).some((name) => Object.hasOwn(optional, name));
    return isOurs ? check(value, key, context) : (undefined as unknown as Partial<Checked<O>>);
  };
}

function plainObject(value: unknown, key: string, context: Context): object {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) refuse(key || 'manifest', 'an object', context);
  // As an own key it is harmless here, but not in code that assigns key by key.
  if (Object.hasOwn(value, '__proto__')) refuse(keyOf(key, '__proto__'), 'absent', context);
  return value;
}

function keyOf(parent: string, name: string): string {
  return parent ? `${parent}.${name}` : name;
}
