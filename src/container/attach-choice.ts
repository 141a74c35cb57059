import type { Chain } from '../image/chain';
import type { Manifest } from '../image/manifest';

/** How a container's disk is attached: by the kernel's loop device on the raw image, or by the stack server, as a chain always is. */
export function attachOf({ kind, config }: Pick<Manifest, 'kind' | 'config'>): 'direct' | 'stack' {
  return kind === 'delta' || config.attach === 'stack' ? 'stack' : 'direct';
}

/** The same of an open present; one without a manifest has no wish. */
export function chooseAttach({ top }: Chain): 'direct' | 'stack' {
  return top.manifest ? attachOf(top.manifest) : 'direct';
}
