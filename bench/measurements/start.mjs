import { alternate, goal, rest, row } from '../harness/samples.mjs';
import { peersOf } from '../peers/peers.mjs';
import { emptyNode } from './cli-start.mjs';

/** `start` of a Debian container until its command runs: whole commands, each container stopped before the next round. */
export async function measure(workspace) {
  const store = workspace.store();
  store.loopbox('template', 'import', 'debian', workspace.debianTar());
  store.loopbox('create', 'bench', '--full', '--attach', 'direct', '--template', 'debian', '--', 'sleep', 'infinity');
  store.loopbox('create', 'linked', '--linked', '--template', 'debian', '--', 'sleep', 'infinity');
  const peers = await peersOf(workspace, store);
  const samples = await alternate(
    {
      empty: { ...emptyNode(workspace), prepare: rest },
      loopbox: starting(store, 'bench'),
      linked: starting(store, 'linked'),
      ...Object.fromEntries(peers.map((peer) => [peer.names.start, { prepare: rest, run: () => peer.start(), after: () => peer.stop() }])),
    },
    workspace.rounds(31),
  );
  const reference = samples.empty;
  const rows = [
    row('`node empty.js`', samples.empty),
    row('`loopbox start`', samples.loopbox, { reference }),
    row('`loopbox start` of a linked one', samples.linked, { reference }),
    ...peers.map(({ names }) => row(names.start, samples[names.start], { reference })),
  ];
  return {
    title: 'Start of a container',
    rows,
    goals: [goal('`loopbox start` above `node empty.js`', rows[1].difference, 100, { unit: 'ms' })],
  };
}

function starting(store, name) {
  return { prepare: rest, run: () => store.time('start', name), after: () => store.loopbox('stop', '-t', '0', name) };
}
