import type { LayerFile } from './layer-file';
import { Lease } from './merge-context';
import { writeManifest } from './image-file';
import { hasEvidence } from './state-index';

/**
 * Takes a sealed file's checksum away, durably, before a merge writes to it: it can't be checked until that has come through, and no other copy of
 * it passes for it. Under a lease: a copy that is being made would have the manifest from before and the map from after. False, and nothing is done,
 * where somebody else has the file open.
 */
export async function forgetEvidence(file: LayerFile): Promise<boolean> {
  const { manifest } = file;
  if (!manifest?.sealed || !hasEvidence(manifest.sealed)) return true;
  using lease = await Lease.take(file.fd);
  if (!lease) return false;
  await writeManifest(file, { ...manifest, sealed: { lengthBytes: manifest.sealed.lengthBytes } });
  return true;
}
