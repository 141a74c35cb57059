import { writeFileSync } from 'node:fs';
import { time } from '../harness/command.mjs';
import { alternate, goal, row } from '../harness/samples.mjs';

/** How long the CLI takes to begin, beside a program of Node that does nothing. */
export async function measure(workspace) {
  const store = workspace.store();
  const samples = await alternate(
    {
      empty: emptyNode(workspace),
      version: { run: () => store.time('--version') },
      ls: { run: () => store.time('ls') },
    },
    workspace.rounds(60),
  );
  const reference = samples.empty;
  const rows = [
    row('`node empty.js`', samples.empty),
    row('`loopbox --version`', samples.version, { reference }),
    row('`loopbox ls` of an empty store', samples.ls, { reference }),
  ];
  return {
    title: 'Start of the CLI',
    rows,
    goals: [goal('`loopbox --version`', rows[1].ratio, 1.6), goal('`loopbox ls` of an empty store', rows[2].ratio, 1.6)],
  };
}

/** The floor of every command: Node's own start and end. */
export function emptyNode(workspace) {
  const program = workspace.path('empty.js');
  writeFileSync(program, '');
  return { run: () => time('node', [program]) };
}
