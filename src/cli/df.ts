import type { Command } from 'commander';
import { diskUsage, type StoreUsage } from '../container/disk-usage';
import { formatSize } from '../units';
import type { Context } from './context';
import { table } from './table';
import { action, addVerb, printNames } from './verb';

export function register(program: Command, context: Context): void {
  addVerb(program, 'df', 'show what containers and templates take').action(
    action(context, (_, __, context) => diskUsage(context.store), printUsage),
  );
}

function printUsage(usage: StoreUsage, context: Context): void {
  if (context.format === 'json') return context.printJson(usage);
  const entries = [
    ...usage.containers.map((entry) => ({ ...entry, kind: 'container' })),
    ...usage.templates.map((entry) => ({ ...entry, kind: 'template' })),
  ];
  if (context.global.quiet)
    return printNames(
      entries.map(({ name }) => name),
      context,
    );
  const { store } = usage;
  context.print(
    ...table(
      ['NAME', 'KIND', 'SIZE', 'USED', 'OWN', 'SNAPSHOTS'],
      entries.map(({ name, kind, sizeBytes, usedBytes, ownBytes, snapshotBytes }) => [
        name,
        kind,
        formatSize(sizeBytes),
        formatSize(usedBytes),
        formatSize(ownBytes),
        snapshotBytes === undefined ? '-' : formatSize(snapshotBytes),
      ]),
    ),
  );
  const reserved = store.reservedBytes > 0 ? `, ${formatSize(store.reservedBytes)} in reserve` : '';
  context.print(
    '',
    `${store.path}: ${formatSize(store.freeBytes)} free of ${formatSize(store.sizeBytes)}, ${formatSize(store.promisedBytes)} promised${reserved}`,
  );
  for (const { name, pending } of usage.containers) if (pending) context.print(`${name}: ${pending} pending`);
  for (const { name, problem } of entries) if (problem) context.warn(`${name}: ${problem}`);
}
