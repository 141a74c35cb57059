import { LoopboxError } from '../errors';
import { MiB } from '../units';
import { type Check, type Context, list, number, object, record, text } from './schema';

/** The version of the manifest that this program writes. A newer minor version is read, a newer major one refused. */
export const manifestVersion = { major: 1, minor: 0 };

export interface Limits {
  memoryBytes?: number;
  cpus?: number;
  pids?: number;
}

/** The portable config: what a container wishes to be run with. It may narrow what the host allows, never widen it. */
export interface Config {
  command?: string[];
  environment: Record<string, string>;
  workdir?: string;
  /** `name`, `1000`, `name:group`: looked up in the image. */
  user?: string;
  hostname?: string;
  stopSignal?: string;
  limits: Limits;
  labels: Record<string, string>;
}

/** What a file says about itself. */
export interface Manifest {
  kind: 'image';
  /** The container's id; a template has none. */
  container?: string;
  /** The id of this content. */
  state: string;
  name?: string;
  /** V: the length of the disk; the manifest lies behind it. */
  sizeBytes: number;
  /** ISO 8601. */
  created: string;
  /** First start, ISO 8601. */
  started?: string;
  template?: { name: string; state: string };
  /** The file's length, and the checksum of the superblock's bytes before ext4's own, when it was sealed. */
  sealed?: { lengthBytes: number; superblockCrc32c: number };
  config: Config;
  /** The file's minor version where it is newer than ours; its unknown keys are then kept, and written under that version. */
  formatMinor?: number;
}

const uuid = text('a uuid', /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/);
const time = text('an ISO 8601 time', /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z$/);
const name = text('a name', /^[a-z0-9][a-z0-9._-]{0,62}(:[A-Za-z0-9._-]{1,32})?$/);
// biome-ignore lint/suspicious/noControlCharactersInRegex: a NUL is what these may not hold
const anyText = text('text without NUL', /^[^\0]*$/);
const byteCount = number('a number of bytes', (value) => Number.isSafeInteger(value) && value > 0);

const limits: Check<Limits> = object(
  {},
  {
    memoryBytes: byteCount,
    cpus: number('a number above 0', (value) => value > 0 && value <= 65536),
    pids: number('a whole number from 1', (value) => Number.isInteger(value) && value >= 1 && value <= 2 ** 22),
  },
);

const command: Check<string[]> = (value, key, context) => {
  const words = list('a list of texts', anyText)(value, key, context);
  if (words[0]) return words;
  throw new LoopboxError(context.code, `${context.action}: "${key}" must begin with a program`);
};

const config: Check<Config> = object(
  {
    environment: record(/^[^=\0]+$/, anyText),
    limits,
    labels: record(/^[^\0]+$/, anyText),
  },
  {
    command,
    workdir: text('an absolute path', /^\/[^\0]*$/),
    user: text('a user, or user:group', /^[^\s:\0]+(:[^\s:\0]+)?$/),
    hostname: text('a host name', /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/),
    stopSignal: text('the name of a signal', /^(SIG)?[A-Z][A-Z0-9+-]{1,11}$/),
  },
);

const manifest: Check<Manifest> = object(
  {
    kind: (value, key, context) => {
      if (value === 'image') return 'image' as const;
      throw new LoopboxError(
        'ERR_LOOPBOX_NOT_SUPPORTED',
        `${context.action}: "${key}" is ${JSON.stringify(value)}, this version knows "image"`,
      );
    },
    state: uuid,
    sizeBytes: number('a multiple of 1 MiB', (value) => Number.isSafeInteger(value) && value > 0 && value % MiB === 0),
    created: time,
    config,
  },
  {
    container: uuid,
    name,
    started: time,
    template: object({ name, state: uuid }, {}),
    sealed: object({ lengthBytes: byteCount, superblockCrc32c: number('a CRC-32C', (value) => value >>> 0 === value) }, {}),
  },
);

/** Deeper than any manifest, and far from where recursion would hurt. */
const maxDepth = 16;

export interface ParsedManifest {
  manifest: Manifest;
  /** Keys that mean nothing to this version (`mounts`, `config.devices`): never acted on. */
  ignored: string[];
}

/**
 * The one parser of manifests, for untrusted text. Throws CORRUPT naming the key that is wrong, NOT_SUPPORTED for another kind.
 * `label` is what messages call the file. Unknown keys are dropped and named, or kept and named where `minor` is newer than ours.
 */
export function parseManifest(json: string, label: string, minor = manifestVersion.minor): ParsedManifest {
  const isNewer = minor > manifestVersion.minor;
  const context: Context = {
    action: `Cannot read the manifest of "${label}"`,
    code: 'ERR_LOOPBOX_CORRUPT',
    ignored: [],
    keepUnknown: isNewer,
  };
  const result = manifest(parseJson(json, context), '', context);
  return { manifest: isNewer ? { ...result, formatMinor: minor } : result, ignored: context.ignored };
}

/** The manifest's JSON, checked as it will be when read. Throws USAGE naming the key that no reader would accept. */
export function formatManifest({ formatMinor, ...value }: Manifest): string {
  const context: Context = {
    action: 'Cannot store the config',
    code: 'ERR_LOOPBOX_USAGE',
    ignored: [],
    keepUnknown: formatMinor !== undefined,
  };
  return JSON.stringify(manifest(JSON.parse(JSON.stringify(value)), '', context));
}

/** Config without a wish: what a foreign image has. */
export function defaultConfig(): Config {
  return { environment: {}, limits: {}, labels: {} };
}

function parseJson(json: string, context: Context): unknown {
  let value: unknown;
  try {
    value = JSON.parse(json);
  } catch (cause) {
    throw new LoopboxError(context.code, `${context.action}: it is not JSON`, { cause });
  }
  let level = [value];
  for (let depth = 0; level.length > 0; depth++) {
    if (depth > maxDepth) throw new LoopboxError(context.code, `${context.action}: it is nested too deeply`);
    level = level.flatMap((one) => (typeof one === 'object' && one !== null ? Object.values(one) : []));
  }
  return value;
}
