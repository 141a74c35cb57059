import { LoopboxError } from '../errors';
import type { WorkOptions } from '../progress';
import { makeWhole } from './flatten';
import { requireStopped } from './require-stopped';
import type { Store } from './store';
import { StoreFiles } from './store-files';
import { workOn } from './work';

/** The containers with a file that stands on a template. */
export function usersOfTemplate(files: StoreFiles, name: string): string[] {
  const template = files.template(name);
  return template ? files.usersOf([template]).map(({ user }) => user) : [];
}

/** Throws ERR_LOOPBOX_IN_USE, naming the users. For the holder of the structure lock. */
export async function requireUnused(store: Store, name: string): Promise<void> {
  const users = usersOfTemplate(await StoreFiles.scan(store), name);
  if (users.length === 0) return;
  throw new LoopboxError('ERR_LOOPBOX_IN_USE', `Cannot remove template "${name}": containers are linked to it: ${users.join(', ')}`, {
    hint: `loopbox template rm --flatten-users ${name}`,
  });
}

/** Makes every file that stands on a template a whole image. Throws ERR_LOOPBOX_WRONG_STATE where one of their containers runs. */
export async function freeUsers(store: Store, name: string, options: WorkOptions): Promise<void> {
  for (const user of usersOfTemplate(await StoreFiles.scan(store, { signal: options.signal }), name)) {
    await using work = await workOn(store, user, 'flatten', options.signal);
    await requireStopped(store, work.target, 'flatten');
    const template = work.files.template(name);
    const standing = work.files.ofContainer(user).filter((file) => template !== undefined && work.files.below(file) === template);
    for (const file of standing) await makeWhole(store, file, work.files.nameOf(file), options);
  }
}
