import { basename, dirname } from 'node:path';
import { type Content, pageBytes } from './content';
import type { CutState } from './replay';

/** What docs/format.md says of a file; read without loopbox. */
export interface FileManifest {
  kind: 'image' | 'delta';
  state: string;
  name?: string;
  container?: string;
  sizeBytes: number;
  parent?: { state: string; hint: string };
  mapOffset: number;
  dataOffset: number;
  sealed?: { lengthBytes: number };
  fold?: { to: string; keep?: string; cursor: number };
  formerly?: string;
}

const MiB = 1 << 20;
const slotBytes = 32 << 10;

const table = Uint32Array.from({ length: 256 }, (_, byte) => {
  let crc = byte;
  for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0x82f63b78 : crc >>> 1;
  return crc;
});

function crc32c(...parts: Buffer[]): number {
  let crc = 0xffffffff;
  for (const part of parts) for (const byte of part) crc = (crc >>> 8) ^ (table[(crc ^ byte) & 0xff] ?? 0);
  return (crc ^ 0xffffffff) >>> 0;
}

function manifestAt(file: Content, position: number): FileManifest | undefined {
  let newest: { generation: bigint; json: Buffer } | undefined;
  for (const place of [position, position + slotBytes]) {
    const footer = file.read(place + slotBytes - 32, 32);
    if (footer.length < 32 || footer.toString('latin1', 0, 8) !== 'LOOPBOXM' || footer.readUInt16LE(8) !== 1) continue;
    const length = footer.readUInt32LE(12);
    if (length > slotBytes - 32) continue;
    const json = file.read(place, length);
    const generation = footer.readBigUInt64LE(16);
    if (crc32c(json, footer.subarray(0, 28)) === footer.readUInt32LE(28) && (!newest || generation > newest.generation))
      newest = { generation, json };
  }
  return newest && (JSON.parse(newest.json.toString()) as FileManifest);
}

function manifestOf(file: Content): FileManifest | undefined {
  if (!file.read(1080, 2).equals(Buffer.from([0x53, 0xef]))) return manifestAt(file, 0);
  const places = [file.size - 2 * slotBytes];
  for (let place = Math.floor(file.size / MiB) * MiB; place > 0; place -= MiB) places.push(place);
  for (const place of places) {
    if (place <= 0 || place % MiB !== 0) continue;
    const manifest = manifestAt(file, place);
    if (manifest?.sizeBytes === place) return manifest;
  }
  return undefined;
}

export interface ReadFile {
  path: string;
  content: Content;
  manifest: FileManifest;
}

/** The files of a state, as docs/format.md reads them; it shares no code with loopbox. */
export class StateReader {
  /** What may be part of something. */
  readonly files = new Map<string, ReadFile>();
  /** The paths of the rest. */
  readonly others: string[] = [];

  /** `elsewhere` are files of other directories, with their paths from this one. */
  constructor(state: CutState, elsewhere: CutState = new Map()) {
    for (const [path, content] of [...state, ...elsewhere]) {
      const manifest = path.endsWith('.next') || basename(path).startsWith('.') ? undefined : manifestOf(content);
      if (manifest) this.files.set(path, { path, content, manifest });
      else this.others.push(path);
    }
  }

  /** What a file stands for, block by block. Throws where it can't be put together. */
  view(path: string): View {
    const layers: Layer[] = [];
    for (let file = this.files.get(path), cursor = 0; ; ) {
      if (!file) throw new Error(`"${path}" can't be read: what "${layers.at(-1)?.file.path ?? path}" stands on is missing`);
      if (layers.some((layer) => layer.file === file)) throw new Error(`"${path}" stands on itself`);
      layers.push({ file, cursor });
      if (file.manifest.kind === 'image') return new View(layers);
      [file, cursor] = this.#below(file);
    }
  }

  /** The image that a delta has been emptied into, where that has its state, but not its name as yet. */
  emptiedInto(path: string): string | undefined {
    const file = this.files.get(path);
    const isIt = (other: ReadFile) => other.manifest.kind === 'image' && other.manifest.state === file?.manifest.state;
    return [...this.files.values()].find((other) => other !== file && isIt(other) && file && ownerOf(other) === ownerOf(file))?.path;
  }

  #below(file: ReadFile): [ReadFile | undefined, number] {
    const { state, parent } = file.manifest;
    for (const other of this.files.values()) {
      const { fold } = other.manifest;
      if (!fold || ownerOf(other) !== ownerOf(file)) continue;
      if (fold.to === state) return [other, fold.cursor];
      if (fold.keep === state) return [other, 0];
    }
    const providers = [...this.files.values()].filter((other) => other !== file && parent && other.manifest.state === parent.state);
    const rank = (other: ReadFile) =>
      (ownerOf(other) === ownerOf(file) ? 0 : other.manifest.sealed ? 2 : 4) + (other.manifest.kind === 'delta' ? 1 : 0);
    return [providers.sort((a, b) => rank(a) - rank(b))[0], 0];
  }
}

interface Layer {
  file: ReadFile;
  cursor: number;
}

const zeroes = Buffer.alloc(pageBytes);

/** A disk, put together. */
export class View {
  readonly sizeBytes: number;

  constructor(private readonly layers: readonly Layer[]) {
    this.sizeBytes = layers[0]?.file.manifest.sizeBytes ?? 0;
  }

  block(index: number): Buffer {
    for (const { file, cursor } of this.layers) {
      const { manifest, content } = file;
      if (index * pageBytes >= manifest.sizeBytes) return zeroes;
      if (manifest.kind === 'image') return content.page(index);
      if (index < cursor) continue;
      const byte = manifest.mapOffset + (index >> 3);
      if (((content.page(Math.floor(byte / pageBytes))[byte % pageBytes] ?? 0) >> (index & 7)) & 1)
        return content.page(manifest.dataOffset / pageBytes + index);
    }
    return zeroes;
  }

  /** The same for views of the same content. */
  get key(): string {
    return this.layers.map(({ file, cursor }) => `${file.content.version}:${cursor}`).join(' ');
  }

  blocks(): Buffer[] {
    return Array.from({ length: this.sizeBytes / pageBytes }, (_, index) => this.block(index));
  }

  /**
   * The first block in which it is not these, but for what a seal changes in the superblock, and for the boot mark; -1 for none. The 64 KiB
   * at `besides` are not looked at.
   */
  differsFrom(blocks: readonly Buffer[], besides = -1): number {
    const count = Math.max(this.sizeBytes / pageBytes, blocks.length);
    for (let index = 0; index < count; index++) {
      const block = this.block(index);
      const other = blocks[index] ?? zeroes;
      if (block === other || block.equals(other)) continue;
      if (besides >= 0 && Math.floor((index * pageBytes - besides) / (2 * slotBytes)) === 0) continue;
      if (index === 0 && plain(block).equals(plain(other))) continue;
      return index;
    }
    return -1;
  }
}

/** Block 0 without the boot mark, ext4's `read-only` feature and the superblock's checksum. */
function plain(block: Buffer): Buffer {
  const copy = Buffer.from(block);
  copy.fill(0, 0, 16);
  copy[1024 + 0x65] = (copy[1024 + 0x65] ?? 0) & ~0x10;
  copy.fill(0, 2044, 2048);
  return copy;
}

/** The container that a file's name says it is of, with its directory. */
function ownerOf({ path }: ReadFile): string {
  return `${dirname(path)}/${
    basename(path)
      .replace(/\.[a-z]+$/, '')
      .split('@')[0]
  }`;
}
