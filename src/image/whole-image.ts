import type { Manifest } from './manifest';

/** What belongs to the file that a state lies in, or to the snapshot that it was. */
const keysOfFile: (keyof Manifest)[] = ['parent', 'mapOffset', 'mapBytes', 'dataOffset', 'sealed', 'snapshot', 'fold', 'formerly'];

/** The manifest of a state as a whole image that is open for writing. */
export function wholeImage(manifest: Manifest): Manifest {
  const kept = Object.entries(manifest).filter(([key]) => !(keysOfFile as string[]).includes(key));
  return { ...(Object.fromEntries(kept) as unknown as Manifest), kind: 'image' };
}
