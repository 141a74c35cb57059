import { LoopboxError } from '../errors';
import type { NativeEntry } from '../native';
import { shortName } from '../printable';

/** A header as tar-stream decodes it (its own types leave out half of that); numbers are NaN or null where they were none. */
export interface TarHeader {
  name: string;
  /** Null for a type that tar-stream does not know. */
  type: string | null;
  mode: number | null;
  uid: number | null;
  gid: number | null;
  size: number;
  mtime: Date;
  linkname: string | null;
  devmajor: number | null;
  devminor: number | null;
  pax: Record<string, string> | null;
  /** Where its content begins in the archive. */
  byteOffset: number;
}

/** Where an archive can't be taken whole, its import ends: nothing is silently left out. */
export interface TarContext {
  /** What messages call the archive. */
  label: string;
  /** PAX records that hold for all entries that follow. */
  global: Record<string, string>;
}

/** What tar-stream puts where text was not UTF-8: the bytes are lost. */
const replacementCharacter = '\ufffd';
const maxId = 0xfffffffe;
/** From where ext4's times begin, in 1901, to where nanoseconds in 64 bits end, in 2262. */
const times = { minNs: -(2n ** 31n) * 1_000_000_000n, maxNs: 2n ** 63n - 1n };

const types: Partial<Record<string, NativeEntry['type']>> = {
  file: 'file',
  'contiguous-file': 'file',
  directory: 'directory',
  symlink: 'symlink',
  link: 'hardlink',
  'character-device': 'character',
  'block-device': 'block',
  fifo: 'fifo',
};

/** PAX records that say something that an entry of ours can't hold, with what that is. */
const unkeepable: [prefix: string, what: string][] = [
  ['GNU.sparse.', 'it is stored as a sparse file'],
  ['SCHILY.realsize', 'it is stored as a sparse file'],
  ['SCHILY.acl.', 'it has an access control list'],
  ['SCHILY.fflags', 'it has file flags'],
  ['GNU.dumpdir', 'it is part of an incremental backup'],
  ['GNU.volume.', 'it is split over several volumes'],
];

/**
 * An archive's header as the entry to be made, its content aside. Names are relative to the root, without `.`; the root itself is `.`.
 * CORRUPT for what leads out of the root or makes no sense, NOT_SUPPORTED for what can't be kept whole, both naming the entry.
 */
export function parseTarEntry(header: TarHeader, context: TarContext): NativeEntry {
  const pax: Record<string, string> = { ...context.global, ...header.pax };
  const entry = new EntryErrors(shortName(header.name), context.label);
  // tar-stream merges global records only into entries that have their own.
  const name = checkedText(header.pax ? header.name : (pax.path ?? header.name), 'its name', entry);
  const records = Object.keys(pax);
  for (const [prefix, what] of unkeepable) {
    if (records.some((record) => record.startsWith(prefix))) throw entry.notSupported(what);
  }
  // tar-stream waits for ever for content whose length it could not read.
  checkedNumber(header.size, 'size', Number.MAX_SAFE_INTEGER, entry);
  const path = relativePath(name, entry);
  const type = entryType(header, name);
  if (!type) throw entry.notSupported('it is a sparse file of GNU tar, or of another type that only some tars know');
  if (path === '.' && type !== 'directory') throw entry.corrupt('only a directory can be the root');
  const xattrs = records.length > 0 ? extendedAttributes(pax, entry) : [];
  return {
    path,
    type,
    mode: checkedNumber(header.mode, 'mode', 0xffffffff, entry) & 0o7777,
    uid: checkedNumber(pax.uid ?? header.uid, 'owner', maxId, entry),
    gid: checkedNumber(pax.gid ?? header.gid, 'group', maxId, entry),
    mtimeNs: modificationTime(header, pax, entry),
    ...linkTarget(type, header, pax, entry),
    ...((type === 'character' || type === 'block') && {
      major: checkedNumber(header.devmajor, 'device number', 0xfff, entry),
      minor: checkedNumber(header.devminor, 'device number', 0xfffff, entry),
    }),
    ...(xattrs.length > 0 && { xattrs }),
  };
}

class EntryErrors {
  constructor(
    readonly name: string,
    readonly label: string,
  ) {}

  corrupt(state: string): LoopboxError {
    return new LoopboxError('ERR_LOOPBOX_CORRUPT', `Cannot import "${this.label}": entry "${this.name}" is refused: ${state}`);
  }

  notSupported(state: string): LoopboxError {
    return new LoopboxError(
      'ERR_LOOPBOX_NOT_SUPPORTED',
      `Cannot import "${this.label}": entry "${this.name}" can't be kept whole: ${state}`,
    );
  }
}

function entryType(header: TarHeader, name: string): NativeEntry['type'] | undefined {
  const type = header.type ? types[header.type] : undefined;
  // Tars older than POSIX mark a directory by its name alone.
  return type === 'file' && name.endsWith('/') ? 'directory' : type;
}

function relativePath(name: string, entry: EntryErrors): string {
  const parts = name.split('/').filter((part) => part !== '' && part !== '.');
  if (parts.includes('..')) throw entry.corrupt('its name leads through ".."');
  if (name === '') throw entry.corrupt('it has no name');
  return parts.join('/') || '.';
}

function linkTarget(type: NativeEntry['type'], header: TarHeader, pax: Record<string, string>, entry: EntryErrors): { target?: string } {
  if (type !== 'symlink' && type !== 'hardlink') return {};
  const target = checkedText(header.pax ? (header.linkname ?? '') : (pax.linkpath ?? header.linkname ?? ''), "its link's target", entry);
  if (target === '') throw entry.corrupt('it is a link to nothing');
  return { target: type === 'symlink' ? target : relativePath(target, entry) };
}

function checkedText(text: string, what: string, entry: EntryErrors): string {
  if (text.includes(replacementCharacter)) throw entry.notSupported(`${what} is not UTF-8`);
  if (text.includes('\0')) throw entry.corrupt(`${what} holds a NUL`);
  return text;
}

function checkedNumber(value: unknown, what: string, max: number, entry: EntryErrors): number {
  const number = typeof value === 'string' ? (/^\d+$/.test(value) ? Number(value) : Number.NaN) : value;
  if (typeof number === 'number' && Number.isInteger(number) && number >= 0 && number <= max) return number;
  throw entry.corrupt(`its ${what} is no number that Linux knows`);
}

function modificationTime(header: TarHeader, pax: Record<string, string>, entry: EntryErrors): bigint {
  const ns = pax.mtime === undefined ? headerTime(header) : paxTime(pax.mtime);
  if (ns === undefined) throw entry.corrupt('its time is not a number');
  if (ns < times.minNs || ns > times.maxNs) throw entry.notSupported('its time is before 1901 or after 2262');
  return ns;
}

function headerTime({ mtime }: TarHeader): bigint | undefined {
  const milliseconds = mtime.getTime();
  if (Number.isNaN(milliseconds)) return undefined;
  // tar-stream reads negative numbers as their ones' complement, one too high.
  return (BigInt(milliseconds) / 1000n - (milliseconds < 0 ? 1n : 0n)) * 1_000_000_000n;
}

function paxTime(text: string): bigint | undefined {
  const match = /^(-?)(\d{1,12})(?:\.(\d+))?$/.exec(text);
  if (!match) return undefined;
  const ns = BigInt(match[2] as string) * 1_000_000_000n + BigInt((match[3] ?? '').slice(0, 9).padEnd(9, '0'));
  return match[1] ? -ns : ns;
}

/**
 * GNU tar and star write attributes as they are (`SCHILY.xattr.`), of which tar-stream keeps only what is UTF-8; bsdtar writes them also
 * in base64 (`LIBARCHIVE.xattr.`), which then counts.
 */
function extendedAttributes(pax: Record<string, string>, entry: EntryErrors): { name: string; value: Uint8Array }[] {
  const values = new Map<string, Uint8Array | undefined>();
  for (const [key, value] of Object.entries(pax)) {
    const [, kind, rawName] = /^(SCHILY|LIBARCHIVE)\.xattr\.(.+)$/s.exec(key) ?? [];
    if (!rawName) continue;
    const name = decodePercent(rawName);
    if (kind === 'LIBARCHIVE') values.set(name, Buffer.from(value, 'base64'));
    else if (!values.get(name)) values.set(name, value.includes(replacementCharacter) ? undefined : Buffer.from(value));
  }
  const selinux = pax['RHT.security.selinux'];
  // The kernel's own form ends with a NUL, the archive's does not.
  if (selinux !== undefined) values.set('security.selinux', Buffer.from(`${selinux.replace(/\0$/, '')}\0`));
  return [...values].map(([name, value]) => {
    if (name.includes(replacementCharacter) || name.includes('\0'))
      throw entry.notSupported('an extended attribute has a name that is not text');
    if (!value) throw entry.notSupported(`its extended attribute "${name}" is not text`);
    return { name, value };
  });
}

/** Both write `=` in a name as `%3D`. */
function decodePercent(text: string): string {
  return text.replace(/%([0-9A-Fa-f]{2})/g, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)));
}
