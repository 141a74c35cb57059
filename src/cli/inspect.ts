import type { Command } from 'commander';
import type { ContainerInfo } from '../container/describe';
import { inspectContainers } from '../container/list';
import { formatSize } from '../units';
import type { Context } from './context';
import { fileTree } from './file-tree';
import { stateText } from './ls';
import { keyValues } from './table';
import { action, addVerb, printNames } from './verb';

export function register(program: Command, context: Context): void {
  addVerb(program, 'inspect <container...>', 'show all that is known of containers').action(
    action(context, (names, _, context) => inspectContainers(context.store, names), printInspected),
  );
}

function printInspected(containers: ContainerInfo[], context: Context): void {
  if (context.format === 'json') return context.printJson(containers.length === 1 ? containers[0] : containers);
  if (context.global.quiet)
    return printNames(
      containers.map(({ name }) => name),
      context,
    );
  context.print(...containers.flatMap((container, index) => (index > 0 ? ['', ...description(container)] : description(container))));
}

function description(container: ContainerInfo): string[] {
  const { config, limits } = container;
  const details = container.fileDetails ?? [];
  const lines = keyValues([
    ['Name', container.name],
    ['State', stateText(container)],
    ['Pid', container.pid?.toString()],
    ['File', container.path],
    ['Size', formatSize(container.sizeBytes)],
    ['Own bytes', formatSize(container.ownBytes)],
    ['Attach', attachText(container)],
    ['Template', container.template],
    ['Container id', container.containerId],
    ['Created', container.created],
    ['Started', container.startedAt],
    ['Ended', container.endedAt],
    ['Exit code', container.exitCode?.toString()],
    ['Out of memory', container.oomKilled ? 'yes' : undefined],
    ['Command', config?.command?.join(' ')],
    ['Environment', config && pairs(config.environment)],
    ['Workdir', config?.workdir],
    ['User', config?.user],
    ['Hostname', config?.hostname],
    ['Labels', config && pairs(config.labels)],
    ['Memory', limits.memoryBytes === undefined ? undefined : formatSize(limits.memoryBytes)],
    ['CPUs', limits.cpus?.toString()],
    ['Pids', limits.pids?.toString()],
  ]);
  // One that stands alone is told of above.
  const isAlone = details.length < 2 && details.every(({ parent, usedBy }) => parent === null && usedBy.length === 0);
  return isAlone ? lines : [...lines, 'Files:', ...fileTree(details).map((line) => `  ${line}`)];
}

/** How, and whether that was left to the host. */
function attachText({ attach, config }: ContainerInfo): string | undefined {
  return attach && (config?.attach ?? 'auto') === 'auto' ? `${attach} (auto)` : attach;
}

function pairs(record: Record<string, string>): string {
  return Object.entries(record)
    .map(([key, value]) => `${key}=${value}`)
    .join(' ');
}
