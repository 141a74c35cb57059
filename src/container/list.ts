import { inspectRun } from '../runtime/status';
import { type ContainerInfo, describeContainer } from './describe';
import type { Store } from './store';
import { namedTarget, resolveRun, targetOfRun } from './target';
import { tidy } from './tidy';

/**
 * All containers of the store, and what else runs: files given by path, and what goes on though its file was taken away. Tidies up
 * after runs that have ended or were killed.
 */
export async function listContainers(store: Store): Promise<ContainerInfo[]> {
  const names = store.containerNames();
  const targets = names.map((name) => namedTarget(store, name));
  for (const id of store.runIds()) {
    const target = targetOfRun(store, id);
    await tidy(store, target);
    if (!names.includes(id) && (await inspectRun(target.directory)).running) targets.push(target);
  }
  const infos = await Promise.all(targets.map((target) => describeContainer(target)));
  return infos.sort((a, b) => (a.name < b.name ? -1 : 1));
}

/** Describes each of `names`, in their order. Throws ERR_LOOPBOX_NOT_FOUND for the first that is not there. */
export async function inspectContainers(store: Store, names: string[]): Promise<ContainerInfo[]> {
  return Promise.all(names.map((name) => describeContainer(resolveRun(store, name))));
}
