import type { Command } from 'commander';
import { type HostInfo, hostInfo } from '../container/host-info';
import type { Context } from './context';
import { keyValues } from './table';
import { action, addVerb, printNames } from './verb';

export function register(program: Command, context: Context): void {
  addVerb(program, 'info', 'show what this host offers').action(action(context, (_, __, context) => hostInfo(context.store), printInfo));
}

function newContainers({ reflink, autoAttach }: HostInfo): string {
  if (reflink) return 'reflinks: new containers share blocks with their template';
  return autoAttach.attach === 'stack'
    ? 'no reflinks: new containers are linked to their template'
    : 'no reflinks: new containers are copied';
}

function printInfo(info: HostInfo, context: Context): void {
  if (context.format === 'json') return context.printJson(info);
  if (context.global.quiet)
    return printNames(
      info.runtimes.map(({ name }) => name),
      context,
    );
  const { attached, devices, preset } = info.loops;
  const lines: [string, string][] = [
    ['loopbox', info.version],
    ['Kernel', info.kernel],
    ['Root', `${info.root} (${newContainers(info)})`],
    ['Run root', info.runRoot],
    ['Attach', `auto is ${info.autoAttach.attach}: ${info.autoAttach.reason}`],
    ['Cgroups', info.cgroup],
    ...info.runtimes.map((runtime): [string, string] => [
      'Runtime',
      `${runtime.name} ${runtime.version} at ${runtime.path}${runtime.default ? ' (default)' : ''}`,
    ]),
    ['Loop devices', `${attached} attached of ${devices}${preset === undefined ? '' : ` (max_loop ${preset})`}; more are made when needed`],
  ];
  context.print(...keyValues(lines));
}
