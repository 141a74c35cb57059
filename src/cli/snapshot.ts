import type { Command } from 'commander';
import { type Restored, restoreSnapshot } from '../container/restore';
import { createSnapshot } from '../container/snapshot-create';
import { type ContainerHistory, listSnapshots } from '../container/snapshot-list';
import { mountSnapshot } from '../container/snapshot-mount';
import type { CreatedSnapshot } from '../container/snapshot-options';
import { type RemoveSnapshotOptions, removeOldestSnapshots, removeSnapshot } from '../container/snapshot-remove';
import { renameSnapshot } from '../container/snapshot-rename';
import { LoopboxError } from '../errors';
import { formatSize } from '../units';
import type { Context } from './context';
import { fileTree } from './file-tree';
import { reclaimBehind } from './merge-behind';
import { table } from './table';
import { action, addVerb, forEachName, parseSeconds, printNames } from './verb';

interface CreateFlags {
  pre?: string;
  post?: string;
  description?: string;
}

interface RemoveFlags {
  oldest?: string;
  wait?: boolean;
}

interface RestoreFlags {
  restart?: boolean;
  diskOnly?: boolean;
  time?: string;
}

export function register(program: Command, context: Context): void {
  const snapshot = addVerb(program, 'snapshot', 'snapshots of containers, running or stopped');
  addVerb(snapshot, 'create <container[@snapshot]>', 'take a snapshot of a container, running or stopped')
    .option('--pre <command>', 'run inside before it, by /bin/sh; where that fails there is no snapshot')
    .option('--post <command>', 'run inside after it, whatever became of it')
    .option('--description <text>', 'what it is for')
    .action(action(context, runCreate, printCreated));
  addVerb(snapshot, 'ls [container...]', 'list snapshots; those of all containers unless told')
    .option('--tree', 'with all files of the containers, each below what it stands on')
    .action(action(context, runList, printSnapshots));
  addVerb(snapshot, 'rename <container@snapshot> <new-name>', 'rename a snapshot').action(
    action(context, ([from = '', to = ''], _, context) => renameSnapshot(context.store, from, to)),
  );
  addVerb(snapshot, 'rm <container@snapshot...>', 'remove snapshots; their space comes back in the background')
    .option('--oldest <n>', 'the arguments are containers: remove the oldest N snapshots of each')
    .option('--wait', 'return when the space is free')
    .action(action(context, runRemove, printNames));
  addVerb(snapshot, 'mount <container@snapshot> <directory>', 'mount a snapshot read-only; umount takes it away').action(
    action(context, ([name = '', directory = ''], _, context) =>
      mountSnapshot(context.store, name, directory, { warn: context.warn, signal: context.signal }),
    ),
  );
  addVerb(snapshot, 'restore <container@snapshot>', 'bring back disk and config of a snapshot; the present becomes a snapshot')
    .option('--restart', 'stop the container first where it runs, and start it again')
    .option('-t, --time <seconds>', 'with --restart: seconds between the stop signal and KILL', '10')
    .option('--disk-only', 'keep the config of the present')
    .action(action(context, runRestore, printRestored));
}

function runCreate([name = '']: string[], flags: CreateFlags, context: Context): Promise<CreatedSnapshot> {
  return createSnapshot(context.store, name, { ...context.work, warn: context.warn, ...flags });
}

async function runList(names: string[], flags: { tree?: boolean }, context: Context) {
  return { tree: flags.tree ?? false, containers: await listSnapshots(context.store, names) };
}

async function runRemove(names: string[], flags: RemoveFlags, context: Context): Promise<string[]> {
  const options = { ...context.work, warn: context.warn, wait: flags.wait ?? false };
  const removed = await removeAll(names, flags.oldest, options, context);
  if (!options.wait) {
    const containers = new Set(names.map((name) => name.replace(/@.*/, '')));
    for (const name of containers) await reclaimBehind(context, name);
  }
  return removed;
}

async function removeAll(names: string[], oldest: string | undefined, options: RemoveSnapshotOptions, context: Context): Promise<string[]> {
  if (oldest === undefined) return forEachName(names, context, (name) => removeSnapshot(context.store, name, options));
  const count = parseCount(oldest);
  const removed: string[] = [];
  await forEachName(names, context, async (name) => {
    removed.push(...(await removeOldestSnapshots(context.store, name, count, options)));
  });
  return removed;
}

function parseCount(text: string): number {
  if (/^[1-9]\d{0,5}$/.test(text)) return Number(text);
  throw new LoopboxError('ERR_LOOPBOX_USAGE', `Cannot remove the oldest "${text}" snapshots: it is not a whole number from 1`);
}

function runRestore([name = '']: string[], flags: RestoreFlags, context: Context): Promise<Restored> {
  return restoreSnapshot(context.store, name, {
    ...context.work,
    warn: context.warn,
    restart: flags.restart ?? false,
    timeoutSeconds: parseSeconds(flags.time),
    diskOnly: flags.diskOnly ?? false,
  });
}

function printCreated(created: CreatedSnapshot, context: Context): void {
  if (context.format === 'json') return context.printJson(created);
  if (context.global.quiet) return context.print(created.name);
  const frozen = created.frozenMs === undefined ? '' : `, frozen for ${created.frozenMs} ms`;
  context.print(`${created.name}: ${created.consistency}${frozen}`);
}

function printRestored(restored: Restored, context: Context): void {
  if (context.format === 'json') return context.printJson(restored);
  context.print(context.global.quiet ? restored.name : `${restored.name}: restored; what it was is ${restored.kept}`);
}

function printSnapshots({ tree, containers }: { tree: boolean; containers: ContainerHistory[] }, context: Context): void {
  const snapshots = containers.flatMap((container) => container.snapshots);
  if (context.format === 'json') return context.printJson(tree ? containers : snapshots);
  if (context.global.quiet)
    return printNames(
      snapshots.map(({ name }) => name),
      context,
    );
  if (tree) return context.print(...containers.flatMap(({ files }) => fileTree(files)));
  context.print(
    ...table(
      ['SNAPSHOT', 'CREATED', 'CONSISTENCY', 'SIZE', 'OWN', 'FILE', 'STANDS ON', 'USED BY'],
      snapshots.map(({ name, created, consistency, file }) => [
        name,
        created ?? '-',
        consistency ?? '-',
        formatSize(file.sizeBytes),
        formatSize(file.ownBytes),
        file.kind,
        file.parent ?? '-',
        [...file.children, ...file.usedBy].join(' ') || '-',
      ]),
    ),
  );
}
