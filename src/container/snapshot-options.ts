import type { SnapshotRecord } from '../image/manifest';
import type { Warn, WorkOptions } from '../progress';

export interface SnapshotOptions extends WorkOptions {
  warn: Warn;
  /** Shell commands that run inside, of a container that runs; the config's own unless told. */
  pre?: string | undefined;
  post?: string | undefined;
  description?: string | undefined;
}

/** What a snapshot is to say, but for how it was taken. */
export type SnapshotAbout = Pick<SnapshotRecord, 'name' | 'created' | 'description'>;

/** What a snapshot was made into. */
export interface TakenSnapshot {
  record: SnapshotRecord;
  how: CreatedSnapshot['how'];
  path: string;
}

/** A snapshot that was taken. */
export interface CreatedSnapshot extends Omit<SnapshotRecord, 'name'> {
  /** NAME@SNAP */
  name: string;
  container: string;
  snapshot: string;
  path: string;
  /** A new top on the file so far, or a whole image: one that shares blocks, or a copy. */
  how: 'delta' | 'reflink' | 'copy';
}
