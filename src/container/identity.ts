import { LoopboxError } from '../errors';
import { type LayerFile, openLayer } from '../image/layer-file';
import type { Manifest } from '../image/manifest';
import { unseal } from '../image/seal';
import type { Warn } from '../progress';
import { newUuid } from '../uuid';
import { claimImage } from './disk';
import type { Store } from './store';
import type { Target } from './target';

/** What a file still lacks to be the container that its name says. */
export interface Adoption {
  /** Whether the file system inside needs an identity of its own (uuid, machine-id, host name). */
  newIdentity: boolean;
  /** To be written when the rest is done: until then the next start begins anew. */
  manifest: Manifest;
}

/**
 * Before a container of the store starts: a file that was dropped in gets what makes it a container of its own.
 * - sealed (a template's file, or a snapshot's): new ids, unsealed; refused while hard links would change with it. The container's own present,
 *   which a merge or a linked clone has sealed, is unsealed only;
 * - its manifest bears another name, and that container is in the store: a new identity, because two must not share one;
 * - its manifest bears another name and no one else has its id: it takes the name that its file has;
 * - it is a linked copy that was never started: its identity is due.
 *
 * The caller has claimed it. A sealed one is unsealed here, before it is mounted; the rest is the caller's. Undefined where nothing is to be done.
 */
export async function adoptFile(store: Store, target: Target, image: LayerFile, warn: Warn): Promise<Adoption | undefined> {
  const name = target.name;
  if (name === undefined || target.byPath) return requireUnsealed(image);
  const sealed = isDroppedIn(image, name);
  if (isSealed(image)) requireOneLink(image, `start "${name}"`);
  if (sealed) await unsealAsNew(image);
  else if (isSealed(image)) await unseal(image, { state: newUuid() });
  const { manifest } = image;
  if (!manifest) return undefined;
  const twin = sealed || manifest.name === name ? undefined : await findTwin(store, name, image);
  if (!sealed && !twin && manifest.name === name && !manifest.identity && !manifest.snapshot) return undefined;

  const isStranger = sealed || twin !== undefined || manifest.container === undefined;
  if (twin) warn(`"${name}" is a copy of "${twin}": it gets a new identity`);
  const { sealed: _, snapshot: __, identity, ...rest } = manifest;
  const ids = isStranger && { container: newUuid(), state: newUuid() };
  return { newIdentity: isStranger || identity === 'pending', manifest: { ...rest, ...ids, name } };
}

/** The other container of the store that has this file's container id and keeps it, because its file is called as its manifest says. */
async function findTwin(store: Store, name: string, image: LayerFile): Promise<string | undefined> {
  const id = image.manifest?.container;
  if (id === undefined) return undefined;
  for (const other of store.containerNames()) {
    if (other === name) continue;
    const manifest = await manifestOf(store.containerPath(other), other);
    if (manifest?.container === id && manifest.name === other) return other;
  }
  return undefined;
}

async function manifestOf(path: string, label: string) {
  try {
    await using file = await openLayer(path, { label });
    return file.manifest;
  } catch (error) {
    // Another container's damage is its own affair; it can't claim this one's identity.
    if (error instanceof LoopboxError) return undefined;
    throw error;
  }
}

/** By its manifest, or, where a cut left only that of an unsealing, by ext4's own feature. */
export function isSealed(file: LayerFile): boolean {
  return file.manifest?.sealed !== undefined || (file.kind === 'image' && file.superblock.readOnly);
}

/** Whether a file is sealed, and not because it is the present of the container NAME, which others stand on: that bears its name, and an id. */
export function isDroppedIn(file: LayerFile, name: string | undefined): boolean {
  return isSealed(file) && !(file.manifest?.container !== undefined && file.manifest.name === name);
}

/**
 * Claims and unseals a sealed file that was dropped into the store, before it is written to. Throws ERR_LOOPBOX_IN_USE where that would
 * change a template, or a backup, through another hard link.
 */
export async function unsealDropped(file: LayerFile, action: string): Promise<void> {
  requireOneLink(file, action);
  await claimImage(file, 'exclusive');
  await unsealAsNew(file);
}

export function requireOneLink({ links, path }: LayerFile, action: string): void {
  if (links <= 1) return;
  throw new LoopboxError('ERR_LOOPBOX_IN_USE', `Cannot ${action}: its file is sealed and has other hard links`, {
    hint: `cp --reflink=auto --sparse=always ${path} ${path}.copy && mv ${path}.copy ${path}`,
    path,
  });
}

/** From the moment that it can change it holds a state that nobody stands on; its identity is due, however often it takes to get there. */
function unsealAsNew(file: LayerFile): Promise<void> {
  return unseal(file, { container: newUuid(), state: newUuid(), identity: 'pending' });
}

/** A sealed FILE stays as it is; the kernel would mount it read-only without a word. */
function requireUnsealed(image: LayerFile): undefined {
  if (!isSealed(image)) return undefined;
  throw new LoopboxError('ERR_LOOPBOX_WRONG_STATE', `Cannot run "${image.label}": it is sealed`, {
    hint: `loopbox run --ephemeral ${image.label}, or loopbox import ${image.label}`,
    path: image.path,
  });
}
