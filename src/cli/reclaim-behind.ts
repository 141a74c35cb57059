import type { Context } from './context';
import { selfCommand } from './self-command';

/** Leaves what a command made needless of a container's files to a process behind it; nothing is done for a snapshot or FILE. */
export async function reclaimBehind(context: Context, name: string): Promise<void> {
  if (/[@/]/.test(name)) return;
  const { reclaimLater } = await import('../container/reclaim-later');
  await reclaimLater(context.store, name, [...selfCommand(context), 'settle', '--reclaim', name]);
}
