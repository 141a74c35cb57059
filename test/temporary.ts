import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, onTestFinished } from 'vitest';
import { CleanupStack } from '../src/cleanup';
import { temporaryPrefix } from './host-state';

export const keepsTemporaryFiles = Boolean(process.env.KEEP_TMP);

const ofFile = new CleanupStack();
afterAll(() => ofFile[Symbol.asyncDispose]());

/** Undoes something when the running test is over; outside of a test (`beforeAll`), when its file is. Last in, first out. */
export function cleanUp(undo: () => Promise<void> | void): void {
  try {
    onTestFinished(undo);
  } catch {
    ofFile.add(undo);
  }
}

/** An empty directory, removed with all that is in it; kept with KEEP_TMP=1. */
export async function temporaryDirectory(): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), temporaryPrefix));
  if (keepsTemporaryFiles) console.log(`kept: ${path}`);
  // What has just been killed may make a file yet.
  else cleanUp(() => rm(path, { recursive: true, force: true, maxRetries: 20 }));
  return path;
}
