import type { Context } from './context';
import { selfCommand } from './self-command';

/** Leaves what a command made needless of a container's files to a process behind it; nothing is done for a snapshot or FILE. */
export function reclaimBehind(context: Context, name: string): Promise<void> {
  return mergeBehind(context, [name], false);
}

/** Leaves what may be merged of the files of containers that rest to processes behind a command: where nobody wants them, they get plain again. */
export function settleBehind(context: Context, names: string[]): Promise<void> {
  return mergeBehind(context, names, true);
}

async function mergeBehind(context: Context, arguments_: string[], atRest: boolean): Promise<void> {
  const names = arguments_.filter((name) => !/[@/]/.test(name));
  if (names.length === 0 || !context.store.hasDeltas()) return;
  const { mergeLater } = await import('../container/merge-later');
  await mergeLater(context.store, names, { command: [...selfCommand(context), 'settle', '--unasked'], atRest });
}
