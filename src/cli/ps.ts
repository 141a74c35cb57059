import type { Command } from 'commander';
import type { ContainerInfo } from '../container/describe';
import type { Context } from './context';
import { look, printContainers } from './ls';
import { action, addVerb } from './verb';

interface PsFlags {
  all?: boolean;
}

export function register(program: Command, context: Context): void {
  addVerb(program, 'ps', 'list running containers')
    .option('-a, --all', 'stopped ones, too')
    .action(action(context, runPs, printContainers));
}

async function runPs(_: string[], flags: PsFlags, context: Context): Promise<ContainerInfo[]> {
  const containers = await look(context);
  return flags.all ? containers : containers.filter(({ state }) => state === 'running');
}
