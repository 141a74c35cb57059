/**
 * The library: the verbs of the command line as promises. A `Store` says where the containers are; long work takes an
 * AbortSignal and reports its progress; failures are LoopboxErrors. No call changes the caller's namespaces or directory.
 */

export type { Attach, AttachDefault } from './container/attach-choice';
export { type CheckedFile, type CheckOptions, type CheckReport, checkContainer } from './container/check';
export { type Cloned, type CloneOptions, cloneContainer } from './container/clone';
export { type ConfigChange, type ConfigInput, parseConfigInput } from './container/config-input';
export type { FileInfo } from './container/container-files';
export { type Created, type CreateOptions, createContainer } from './container/create';
export type { ContainerInfo, ContainerState } from './container/describe';
export { type ContainerUsage, diskUsage, type StoreUsage } from './container/disk-usage';
export { type ExecOptions, execCommand } from './container/exec';
export { filesOf } from './container/files';
export { type Flattened, flattenContainer } from './container/flatten';
export { type HostInfo, hostInfo } from './container/host-info';
export { inspectContainers, listContainers } from './container/list';
export { containerLogs, type LogOptions } from './container/logs';
export { type DiskMap, type MapCell, type MapOptions, type MappedFile, mapContainer } from './container/map';
export { type RemoveOptions, removeContainer } from './container/remove';
export { renameContainer } from './container/rename';
export { type Restored, type RestoreOptions, restoreSnapshot } from './container/restore';
export { type RunningContainer, type RunOptions, runFile, runTemplate } from './container/run';
export { type SetResult, setConfig } from './container/set';
export { type Settled, settleContainer } from './container/settle';
export { createSnapshot } from './container/snapshot-create';
export { type ContainerHistory, listSnapshots, type SnapshotInfo } from './container/snapshot-list';
export { mountSnapshot } from './container/snapshot-mount';
export type { CreatedSnapshot, SnapshotOptions } from './container/snapshot-options';
export { removeOldestSnapshots, removeSnapshot } from './container/snapshot-remove';
export { renameSnapshot } from './container/snapshot-rename';
export { type StartOptions, startContainer } from './container/start';
export { killContainer, restartContainer, type StopOptions, stopContainer, waitForContainer } from './container/stop';
export { Store, type StoreOptions } from './container/store';
export { createTemplate, importTemplate, inspectTemplate, listTemplates, removeTemplate, type TemplateInfo } from './container/templates';
export { exportContainer, importContainer } from './container/transfer';
export { type ErrorCode, LoopboxError } from './errors';
export type { ProgressEvent, Warn, WorkOptions } from './progress';
