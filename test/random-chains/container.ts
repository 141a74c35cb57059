import { mkdirSync, rmSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { adoptFile } from '../../src/container/identity';
import { openToStart } from '../../src/container/attach-present';
import { keepStateOfOthers } from '../../src/container/keep-state';
import { putTopAside } from '../../src/container/snapshot-served';
import type { Store } from '../../src/container/store';
import { namedTarget } from '../../src/container/target';
import { lockTarget, workOn } from '../../src/container/work';
import { placeManifest, writeManifest } from '../../src/image/image-file';
import { openLayer } from '../../src/image/layer-file';
import type { NewFile } from '../../src/image/new-file';
import { ownBlock0 } from '../../src/image/own-block0';
import { attachGuard, type StackServer, startStackServer } from '../../src/loop/stack-server';
import type { RunRecord } from '../../src/runtime/run-directory';
import { newUuid } from '../../src/uuid';
import { lockIsFree } from '../fixtures';
import { type BlockIoctls, ServedDisk } from './served-disk';

/** Warnings that a test has not asked for. */
function warn(message: string): never {
  throw new Error(message);
}

/** Makes a file with a file system, or what passes for one, a container that the storage server attaches on any host. */
export async function publishImage(store: Store, name: string, file: NewFile, sizeBytes: number): Promise<void> {
  await placeManifest(file.fd, sizeBytes, {
    kind: 'image',
    container: newUuid(),
    state: newUuid(),
    name,
    sizeBytes,
    created: new Date().toISOString(),
    config: { environment: {}, limits: {}, labels: {}, attach: 'stack' },
  });
  await file.publish(store.containerPath(name));
}

/** Attaches a container's present as a start does, but for the container: its storage server's keeper passes for the first process. */
export async function attachContainer(store: Store, name: string, ioctls: BlockIoctls): Promise<ServedDisk> {
  const target = namedTarget(store, name);
  await using _lock = await lockTarget(store, target);
  await keepStateOfOthers(store, target);
  await using present = await openToStart(store, target, {});
  const { chain, served } = present;
  if (!served) throw new Error(`"${name}" is not served`);
  const adoption = await adoptFile(store, target, chain.top, warn);
  if (chain.top.kind === 'delta') await ownBlock0(chain);
  if (adoption) await writeManifest(chain.top, adoption.manifest);
  mkdirSync(target.directory.root, { recursive: true });
  const [bottom] = served.layers;
  const { sizeBytes, image } = chain;
  const guard = image.superblock.readOnly || !bottom ? undefined : await attachGuard({ fd: bottom.fd, label: name, sizeBytes });
  try {
    const server = await startStackServer({
      label: name,
      controlPath: target.directory.controlPath,
      logPath: target.directory.serverLogPath,
      layers: [...served.layers],
      sizeBytes,
      guardFd: guard?.fd,
      moveToCgroup: () => {},
      warn,
    });
    target.directory.writeRecord(recordOf(name, target.path, server));
    return await ServedDisk.open(server, ioctls);
  } finally {
    await guard?.close();
  }
}

function recordOf(name: string, file: string, { pid, pidStart, loop }: StackServer): RunRecord {
  return {
    id: name,
    file,
    identity: name,
    label: name,
    loop: { index: loop.index, diskSequence: loop.diskSequence },
    server: { pid, start: pidStart },
    stopSignal: 'SIGTERM',
    limits: {},
    runtime: 'none',
    terminal: false,
    hasExitCommand: false,
    pid,
    pidStart,
    conmonPid: pid,
    conmonStart: pidStart,
    startedAt: new Date().toISOString(),
  };
}

/** Once its disk is detached: takes away what is left of a run, and waits for the lock, which a busy kernel may keep for a while. */
export async function forgetRun(store: Store, name: string): Promise<void> {
  rmSync(store.runDirectory(name).root, { recursive: true, force: true });
  for (const deadline = Date.now() + 20_000; !(await lockIsFree(store.containerPath(name))); await sleep(5)) {
    if (Date.now() > deadline) throw new Error(`The present of "${name}" is locked, and nobody serves it`);
  }
}

/** A snapshot of a container that is attached, and to which nothing is written meanwhile. */
export async function snapshotAttached(store: Store, name: string, snapshot: string): Promise<void> {
  await using work = await workOn(store, name, 'snapshot');
  await using top = await openLayer(work.target.path, { write: true });
  await putTopAside(store, work, top, snapshot, async ({ body }) => {
    await body();
    return { name: snapshot, created: new Date().toISOString(), consistency: 'filesystem' as const };
  });
}
