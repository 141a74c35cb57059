import { mkdirSync } from 'node:fs';
import { output } from '../harness/command.mjs';
import { Containerd } from './containerd.mjs';
import { Runc } from './runc.mjs';

let peers;

/**
 * What starts the same container otherwise: the OCI runtime alone, which is the floor, and containerd where it is asked for. `store` has
 * a container `bench`, stopped. A peer has `start()`, `exec()`, which return milliseconds, `stop()`, and `names` of the two.
 */
export function peersOf(workspace, store) {
  peers ??= makePeers(workspace, store);
  return peers;
}

async function makePeers(workspace, store) {
  const rootfs = workspace.path('rootfs');
  mkdirSync(rootfs);
  output('tar', ['-C', rootfs, '-xf', workspace.debianTar()]);
  const runc = new Runc(workspace, rootfs, configOf(store));
  return workspace.withPeers ? [runc, await Containerd.start(workspace)] : [runc];
}

/** The OCI config that loopbox starts the container with. */
function configOf(store) {
  store.loopbox('start', 'bench');
  try {
    return JSON.parse(output('cat', [`${store.bundleOf('bench')}/config.json`]));
  } finally {
    store.loopbox('stop', '-t', '0', 'bench');
  }
}
