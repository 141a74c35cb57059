import { LoopboxError } from '../errors';
import { openLayer } from '../image/layer-file';
import type { SnapshotRecord } from '../image/manifest';
import type { IndexedFile } from '../image/state-index';
import { Attachments } from '../loop/find-attached';
import { ownBytes } from './own-bytes';
import type { StoreFiles } from './store-files';

/** What `inspect` and `snapshot ls` tell of one file of a container. */
export interface FileInfo {
  /** `web` for the present, `web@mon` for a snapshot, `web@~1` for what has no name. */
  name: string;
  path: string;
  role: 'present' | 'snapshot' | 'nameless';
  kind: 'image' | 'delta';
  /** Of the disk. */
  sizeBytes: number;
  /** Bytes on the host that are this file's alone. */
  ownBytes: number;
  state: string;
  sealed: boolean;
  /** The file that it stands on, by its name; null for an image. */
  parent: string | null;
  /** The files of the same container that stand on it. */
  children: string[];
  /** Who else needs it: containers that stand on it, and loop devices that it is attached as. */
  usedBy: string[];
  snapshot?: SnapshotRecord;
  /** What waits to be done with it: its blocks are merged into another file, or nobody needs it any more. */
  pending?: 'fold' | 'reclaim';
  /** What is wrong with it. */
  problem?: string;
}

/** Describes the files of a container, its present first. */
export async function describeFiles(files: StoreFiles, name: string): Promise<FileInfo[]> {
  const attachments = await Attachments.read();
  return Promise.all(files.ofContainer(name).map((file) => describeFile(files, attachments, file)));
}

async function describeFile(files: StoreFiles, attachments: Attachments, file: IndexedFile): Promise<FileInfo> {
  const { manifest, parsed } = file;
  const below = files.below(file);
  const above = files.above(file);
  const isOwn = (other: IndexedFile) => other.directory === file.directory && other.parsed?.name === parsed?.name;
  const pending = pendingOf(files, file);
  const isMissing = manifest.parent !== undefined && !below;
  return {
    name: files.nameOf(file),
    path: file.path,
    role: roleOf(file),
    kind: manifest.kind,
    sizeBytes: manifest.sizeBytes,
    ownBytes: await ownBytesOf(file),
    state: manifest.state,
    sealed: manifest.sealed !== undefined,
    parent: below ? files.nameOf(below) : null,
    children: above.filter(isOwn).map((other) => files.nameOf(other)),
    usedBy: [
      ...new Set(above.filter((other) => !isOwn(other)).map((other) => other.parsed?.name ?? other.path)),
      ...(parsed?.role === 'top' ? [] : attachments.of(file)),
    ],
    ...(manifest.snapshot && parsed?.role === 'snapshot' && { snapshot: manifest.snapshot }),
    ...(pending && { pending }),
    ...(isMissing && { problem: `needs "${manifest.parent?.hint ?? manifest.parent?.state}", which is missing` }),
  };
}

/** What waits to be done with a file; a nameless one that several stand on, or others' clones, waits for them and not for us. */
export function pendingOf(files: StoreFiles, file: IndexedFile): FileInfo['pending'] {
  if (file.manifest.fold || file.parsed?.role === 'fold') return 'fold';
  if (file.parsed?.role !== 'nameless') return undefined;
  const above = files.above(file);
  const [only] = above;
  if (!only) return 'reclaim';
  return above.length === 1 && only.directory === file.directory && only.parsed?.name === file.parsed.name ? 'reclaim' : undefined;
}

function roleOf({ parsed }: IndexedFile): FileInfo['role'] {
  if (parsed?.role === 'top') return 'present';
  return parsed?.role === 'snapshot' ? 'snapshot' : 'nameless';
}

/** Zero of one that went away meanwhile. */
async function ownBytesOf({ path }: IndexedFile): Promise<number> {
  try {
    await using file = await openLayer(path, { noFollow: true });
    return await ownBytes(file.fd);
  } catch (error) {
    if (error instanceof LoopboxError) return 0;
    throw error;
  }
}
