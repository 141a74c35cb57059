import type { Warn } from '../progress';
import { inspectRun } from '../runtime/status';
import { type ContainerInfo, describeContainer } from './describe';
import type { Store } from './store';
import { StoreFiles } from './store-files';
import { namedTarget, resolveRun, type Target, targetOfRun } from './target';
import { tidy } from './tidy';
import { tidyNames } from './work';

/**
 * All containers of the store, and what else runs: files given by path, and what goes on though its file was taken away. Tidies up
 * after runs that have ended or were killed; what can't be tidied up is warned of.
 */
export async function listContainers(store: Store, warn: Warn): Promise<ContainerInfo[]> {
  const warnOf = (error: unknown) => warn(error instanceof Error ? error.message : String(error));
  const running: Target[] = [];
  for (const id of store.runIds()) {
    const target = targetOfRun(store, id);
    await tidy(store, target).catch(warnOf);
    if ((await inspectRun(target.directory)).running) running.push(target);
  }
  // Looked for last: what a tidy-up has removed is not there any more.
  for (const name of new Set([...store.interruptedNames(), ...store.absentNames()])) await tidyNames(store, name).catch(warnOf);
  const names = store.namesOfFiles();
  const files = await StoreFiles.scan(store);
  const targets = [...names.map((name) => namedTarget(store, name)), ...running.filter(({ id }) => !names.includes(id))];
  const infos = await Promise.all(targets.map((target) => describeContainer(store, target, files)));
  return infos.sort((a, b) => (a.name < b.name ? -1 : 1));
}

/** Describes each of `names`, in their order. Throws ERR_LOOPBOX_NOT_FOUND for the first that is not there. */
export async function inspectContainers(store: Store, names: string[]): Promise<ContainerInfo[]> {
  const targets = names.map((name) => resolveRun(store, name));
  const files = await StoreFiles.scan(store);
  return Promise.all(targets.map((target) => describeContainer(store, target, files, { details: true })));
}
