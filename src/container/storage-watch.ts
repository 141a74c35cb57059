import { startStorageWatcher } from '../loop/storage-watcher';
import { ContainerCgroups } from '../runtime/cgroups';
import type { RunDirectory } from '../runtime/run-directory';

/** Beside a container whose disk hangs on a storage server: whoever ends first, the other does, too. For a run that has its record. */
export function watchStorage(directory: RunDirectory): void {
  const record = directory.readRecord();
  if (!record?.server) return;
  const cgroups = new ContainerCgroups(directory.cgroupParent);
  startStorageWatcher({
    keeper: record.server,
    init: { pid: record.pid, start: record.pidStart },
    markPath: directory.storageLostPath,
    controlPath: directory.controlPath,
    processesFile: cgroups.processesFile,
    thaw: cgroups.thawWrite,
    moveToCgroup: (pid) => cgroups.moveToMonitor(pid),
  });
}
