import { alternate, goal, rest, row } from '../harness/samples.mjs';
import { peersOf } from '../peers/peers.mjs';
import { emptyNode } from './cli-start.mjs';

/** `exec NAME true` in a running Debian container: whole commands. */
export async function measure(workspace) {
  const store = workspace.store();
  store.loopbox('template', 'import', 'debian', workspace.debianTar());
  store.loopbox('create', 'bench', '--template', 'debian', '--', 'sleep', 'infinity');
  const peers = await peersOf(workspace, store);
  store.loopbox('start', 'bench');
  for (const peer of peers) peer.start();
  const samples = await alternate(
    {
      empty: { ...emptyNode(workspace), prepare: rest },
      loopbox: { prepare: rest, run: () => store.time('exec', 'bench', 'true') },
      ...Object.fromEntries(peers.map((peer) => [peer.names.exec, { prepare: rest, run: () => peer.exec() }])),
    },
    workspace.rounds(41),
  );
  for (const peer of peers) peer.stop();
  const reference = samples.empty;
  const rows = [
    row('`node empty.js`', samples.empty),
    row('`loopbox exec NAME true`', samples.loopbox, { reference }),
    ...peers.map(({ names }) => row(names.exec, samples[names.exec], { reference })),
  ];
  return {
    title: 'A command in a running container',
    rows,
    goals: [goal('`loopbox exec NAME true` above `node empty.js`', rows[1].difference, 50, { unit: 'ms' })],
  };
}
