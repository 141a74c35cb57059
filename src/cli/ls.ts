import type { Command } from 'commander';
import type { ContainerInfo } from '../container/describe';
import { listContainers } from '../container/list';
import { formatSize } from '../units';
import type { Context } from './context';
import { settleBehind } from './merge-behind';
import { table } from './table';
import { action, addVerb, printNames } from './verb';

export function register(program: Command, context: Context): void {
  addVerb(program, 'ls', 'list all containers').action(action(context, (_, __, context) => look(context), printContainers));
}

/** All containers; what is to be merged of those that rest, since they ended by themselves, say, is begun. */
export async function look(context: Context): Promise<ContainerInfo[]> {
  const containers = await listContainers(context.store, context.warn);
  await settleBehind(
    context,
    containers.filter(({ state, busy }) => state !== 'running' && !busy).map(({ name }) => name),
  );
  return containers;
}

export function printContainers(containers: ContainerInfo[], context: Context): void {
  if (context.format === 'json') return context.printJson(containers);
  if (context.global.quiet)
    return printNames(
      containers.map(({ name }) => name),
      context,
    );
  context.print(
    ...table(
      ['NAME', 'STATE', 'PID', 'SIZE', 'OWN', 'TEMPLATE'],
      containers.map((container) => [
        container.name,
        stateText(container),
        String(container.pid ?? '-'),
        formatSize(container.sizeBytes),
        formatSize(container.ownBytes),
        container.template ?? '-',
      ]),
    ),
  );
}

/** `running`, `running (monitor lost)`, `failed (exit 3)`, `stopped, busy`, `stopped, reclaim pending`. */
export function stateText({ state, reason, busy, pending }: ContainerInfo): string {
  return `${state}${reason ? ` (${reason})` : ''}${busy ? ', busy' : ''}${pending ? `, ${pending} pending` : ''}`;
}
