import { rmSync } from 'node:fs';
import { time } from '../harness/command.mjs';
import { alternate, goal, row } from '../harness/samples.mjs';
import { allocated, settle } from '../harness/workspace.mjs';

/** `export` of a Debian container to a file, beside `cp` of the container's file. */
export async function measure(workspace) {
  const { directory } = workspace;
  const store = workspace.store();
  store.loopbox('template', 'import', 'debian', workspace.debianTar());
  store.loopbox('create', 'bench', '--full', '--template', 'debian');
  const [image, copy] = [store.imageOf('bench'), workspace.path('copy.img')];
  const contestant = (run) => ({ prepare: () => settle(directory), run, after: () => rmSync(copy) });
  const copying = (text) => contestant(() => time('sh', ['-ec', text, 'sh', '--sparse=always', image, copy]));
  const samples = await alternate(
    {
      cp: copying('exec cp "$@"'),
      durable: copying('cp "$@"; sync "$3"'),
      export: contestant(() => store.time('export', 'bench', copy)),
    },
    workspace.rounds(21),
  );
  const reference = samples.cp;
  const rows = [
    row('`cp --sparse=always`', samples.cp),
    row('the same, then `sync FILE`', samples.durable, { reference }),
    row('`loopbox export`', samples.export, { reference }),
  ];
  return {
    title: `Export of a container that takes ${allocated(image)} on the host`,
    rows,
    goals: [goal('beside `cp --sparse=always`', rows[2].ratio, 1.2)],
  };
}
