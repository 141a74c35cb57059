import { LoopboxError } from '../errors';
import { LiveClone } from '../image/clone-live';
import { setLength } from '../image/file-io';
import { freshNumber } from '../image/file-names';
import { type LayerFile, openLayer } from '../image/layer-file';
import { NewFile } from '../image/new-file';
import { sealNewImage } from '../image/seal';
import type { RunRecord } from '../runtime/run-directory';
import { newUuid } from '../uuid';
import { canReflink } from './reflink';
import { requireManifest } from './snapshot-files';
import { needsStack } from './snapshot-running';
import { putTopAside } from './snapshot-served';
import type { Store } from './store';
import type { Target } from './target';
import type { Work } from './work';
import { ComingFreeze, type FrozenWork } from './coming-freeze';

/**
 * Opens what a running container of the store has on its disk at this moment, sealed: what was its top, which goes on without a name under a new one and
 * is merged later; or, attached directly, a clone of its file that never gets a name. For the holder of the verb lock.
 * ERR_LOOPBOX_NOT_SUPPORTED where neither can be.
 */
export async function openPassingSnapshot(
  store: Store,
  { target, name, held }: Pick<Work, 'target' | 'name' | 'held'>,
  run: RunRecord,
  signal?: AbortSignal,
): Promise<LayerFile> {
  await using freeze = new ComingFreeze(target, run, signal);
  await using top = await openLayer(target.path, { label: target.label, write: true });
  const frozen = async (work: FrozenWork) => {
    const { held } = await freeze.around(work);
    if (!held) throw thawedTooEarly(target);
    return undefined;
  };
  if (run.server) {
    const { path } = await putTopAside(store, { name, target, held }, top, `~${freshNumber(store.fileNamesOf(name), name)}`, frozen);
    return await openLayer(path, { label: target.label });
  }
  if (!(await canReflink(store.containersDirectory))) throw needsStack(name);
  await using clone = await NewFile.create(store.containersDirectory);
  const live = new LiveClone(clone.fd, top.fd);
  await frozen({ ahead: () => live.ahead(signal), body: () => live.finish() });
  await setLength(clone.fd, top.sizeBytes);
  await sealNewImage(clone.fd, top.sizeBytes, { ...requireManifest(top), state: newUuid() });
  return await openLayer(`/proc/self/fd/${clone.fd}`, { label: target.label });
}

function thawedTooEarly({ label }: Target): LoopboxError {
  return new LoopboxError('ERR_LOOPBOX_FAILED', `Cannot read "${label}" as it is at one moment: its file system was thawed meanwhile`, {
    hint: 'try again',
  });
}
