import { LoopboxError } from '../errors';
import { MiB } from '../units';
import { checkGeometry } from './delta-geometry';
import { type Check, type Context, list, number, object, oneOf, ours, record, refuse, text } from './schema';

/** The version of the manifest that this program writes. A newer minor version is read, a newer major one refused. */
export const manifestVersion = { major: 1, minor: 0 };

/** The `state` of a file that holds none: one that is being merged with the delta that stands on it. */
export const noState = '00000000-0000-0000-0000-000000000000';

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
  /** How the disk is attached; `auto` unless told. */
  attach?: AttachChoice;
  /** Whether it settles by itself; `auto` unless told. */
  settle?: 'auto' | 'never';
  hooks?: SnapshotHooks;
}

export type AttachChoice = 'auto' | 'direct' | 'stack';

/** Shell commands that run inside, before and after a snapshot is taken. */
export interface SnapshotHooks {
  pre?: string;
  post?: string;
  timeoutSeconds?: number;
}

/** Which file a delta stands on: whichever provides `state`. The hint is a name for messages, and is never opened. */
export interface ParentLink {
  state: string;
  hint?: string;
}

/** A point in a container's history, as it was taken. */
export interface SnapshotRecord {
  name: string;
  /** ISO 8601. */
  created: string;
  consistency: 'stopped' | 'application' | 'filesystem' | 'crash';
  /** How long writers waited. */
  frozenMs?: number;
  description?: string;
  /** Exit codes. */
  hooks?: { pre?: number; post?: number };
}

/**
 * In a file that is being merged with the delta that stands on it: in an image what is folded into it (blocks below `cursor` are
 * done), in a delta what absorbs it (`cursor` is 0).
 */
export interface FoldRecord {
  /** The state of that delta; an image will have it. */
  to: string;
  /** The state that the file itself had: that delta stood on it, and a copy of it that stands elsewhere is not the one that is meant. */
  was: string;
  /** The state, of a delta, that gets the blocks that the image loses. */
  keep?: string;
  cursor: number;
}

/** What a sealed file looked like. Without a checksum only its length is known: it is being merged. */
export interface SealRecord {
  lengthBytes: number;
  /** Of an image: of its superblock without ext4's own checksum. */
  superblockCrc32c?: number;
  /** Of a delta: of its map, as far as V reaches. */
  mapCrc32c?: number;
}

/** What a file says about itself. */
export interface Manifest {
  kind: 'image' | 'delta';
  /** The container's id; a template has none. */
  container?: string;
  /** The id of this content; `noState` where there is `fold`. */
  state: string;
  name?: string;
  /** V: the length of the disk. */
  sizeBytes: number;
  /** Only of a delta; absent in one whose parent is the image of a running fold. */
  parent?: ParentLink;
  /** Only of a delta, and there in each. */
  mapOffset?: number;
  mapBytes?: number;
  dataOffset?: number;
  /** ISO 8601. */
  created: string;
  /** First start, ISO 8601. */
  started?: string;
  template?: { name: string; state: string };
  sealed?: SealRecord;
  snapshot?: SnapshotRecord;
  fold?: FoldRecord;
  /** The name that the container had, while it is being renamed. */
  formerly?: string;
  /** The file system inside gets an identity of its own at the next start. */
  identity?: 'pending';
  config: Config;
  /** The file's minor version where it is newer than ours; its unknown keys are then kept, and written under that version. */
  formatMinor?: number;
}

/** The manifest of a delta. */
export type DeltaManifest = Manifest & { kind: 'delta'; mapOffset: number; mapBytes: number; dataOffset: number };

const anyUuid = text('a uuid', /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/);
/** A state that there is. */
const uuid: Check<string> = (value, key, context) => {
  const id = anyUuid(value, key, context);
  return id === noState ? refuse(key, 'a uuid other than the nil one', context) : id;
};
const time = text('an ISO 8601 time', /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z$/);
const name = text('a name', /^[a-z0-9][a-z0-9._-]{0,62}(:[A-Za-z0-9._-]{1,32})?$/);
// biome-ignore lint/suspicious/noControlCharactersInRegex: a NUL is what these may not hold
const anyText = text('text without NUL', /^[^\0]*$/);
// biome-ignore lint/suspicious/noControlCharactersInRegex: a NUL is what this may not hold
const hintPattern = /^[^\0]{1,255}$/;
const byteCount = number('a number of bytes', (value) => Number.isSafeInteger(value) && value > 0);

const shellCommand = text('a command', /^[^\0]+$/);
const wholeNumber = number('a whole number', (value) => Number.isSafeInteger(value) && value >= 0);
const checksum = number('a CRC-32C', (value) => value >>> 0 === value);

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
    attach: oneOf('auto', 'direct', 'stack'),
    settle: oneOf('auto', 'never'),
    // A runtime's hooks, which run on the host, are called so, too.
    hooks: ours({
      pre: shellCommand,
      post: shellCommand,
      timeoutSeconds: number('seconds above 0', (value) => value > 0 && value <= 86_400),
    }),
  },
);

const snapshot: Check<SnapshotRecord> = object(
  {
    name: text('the name of a snapshot', /^[a-z0-9][a-z0-9._-]{0,62}$/),
    created: time,
    consistency: oneOf('stopped', 'application', 'filesystem', 'crash'),
  },
  {
    frozenMs: number('milliseconds', (value) => value >= 0),
    description: anyText,
    hooks: object({}, { pre: wholeNumber, post: wholeNumber }),
  },
);

const keys: Check<Manifest> = object(
  {
    kind: (value, key, context) => {
      if (value === 'image' || value === 'delta') return value;
      throw new LoopboxError(
        'ERR_LOOPBOX_NOT_SUPPORTED',
        `${context.action}: "${key}" is ${JSON.stringify(value)}, this version knows "image" and "delta"`,
      );
    },
    state: anyUuid,
    sizeBytes: number('a multiple of 1 MiB', (value) => Number.isSafeInteger(value) && value > 0 && value % MiB === 0),
    created: time,
    config,
  },
  {
    container: uuid,
    name,
    parent: object({ state: uuid }, { hint: text('a name', hintPattern) }),
    mapOffset: byteCount,
    mapBytes: byteCount,
    dataOffset: byteCount,
    started: time,
    template: object({ name, state: uuid }, {}),
    sealed: object({ lengthBytes: byteCount }, { superblockCrc32c: checksum, mapCrc32c: checksum }),
    snapshot,
    fold: object({ to: uuid, was: uuid, cursor: wholeNumber }, { keep: uuid }),
    formerly: name,
    identity: oneOf('pending'),
  },
);

const onlyInDeltas = ['parent', 'mapOffset', 'mapBytes', 'dataOffset'] as const;

/** The keys, and what they have to do with each other. */
const manifest: Check<Manifest> = (value, key, context) => {
  const result = keys(value, key, context);
  if (result.kind === 'delta') {
    checkGeometry(result, context);
  } else {
    for (const one of onlyInDeltas) if (result[one] !== undefined) refuse(one, 'absent in an image', context);
  }
  if ((result.fold !== undefined) !== (result.state === noState))
    refuse('state', 'the nil uuid where there is "fold", and only there', context);
  return result;
};

/** Deeper than any manifest, and far from where recursion would hurt. */
const maxDepth = 16;

export interface ParsedManifest {
  manifest: Manifest;
  /** Keys that mean nothing to this version (`mounts`, `config.devices`): never acted on. */
  ignored: string[];
}

/**
 * The one parser of manifests, for untrusted text. Throws CORRUPT naming the key that is wrong, NOT_SUPPORTED for another kind.
 * `label` is what messages call the file, `kind` the only one that its place allows. Unknown keys are dropped and named, or kept and named where `minor` is newer than ours.
 */
export function parseManifest(json: string, label: string, minor = manifestVersion.minor, kind?: Manifest['kind']): ParsedManifest {
  const isNewer = minor > manifestVersion.minor;
  const context: Context = {
    action: `Cannot read the manifest of "${label}"`,
    code: 'ERR_LOOPBOX_CORRUPT',
    ignored: [],
    keepUnknown: isNewer,
  };
  const value = parseJson(json, context);
  const found = (value as Partial<Manifest> | null)?.kind;
  if (kind !== undefined && (found === 'image' || found === 'delta') && found !== kind)
    throw new LoopboxError('ERR_LOOPBOX_NOT_SUPPORTED', `${context.action}: "kind" is "${found}", in this place it must be "${kind}"`);
  const result = manifest(value, '', context);
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
