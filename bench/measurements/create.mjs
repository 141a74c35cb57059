import { rmSync } from 'node:fs';
import { time } from '../harness/command.mjs';
import { alternate, goal, row } from '../harness/samples.mjs';
import { allocated, settle } from '../harness/workspace.mjs';

/** `create` from a Debian template, beside `cp` of the template's file: where it has to copy, and where the host shares blocks. */
export async function measure(workspace) {
  const tar = workspace.debianTar();
  const copied = await onFileSystem(workspace, workspace.directory, tar, '--sparse=always');
  const shared = await onFileSystem(workspace, workspace.xfs(4 * 2 ** 30), tar, '--reflink=always');
  const rows = [
    row('`cp --sparse=always`', copied.samples.cp),
    row('the same, then `sync FILE`', copied.samples.durable, { reference: copied.samples.cp }),
    row('`loopbox create --full`', copied.samples.create, { reference: copied.samples.cp }),
    row('`loopbox create --linked`', copied.samples.linked, { reference: copied.samples.cp }),
    row('XFS: `cp --reflink=always`', shared.samples.cp),
    row('XFS: the same, then `sync FILE`', shared.samples.durable, { reference: shared.samples.cp }),
    row('XFS: `loopbox create`', shared.samples.create, { reference: shared.samples.cp }),
  ];
  return {
    title: `Create from a template that takes ${copied.size} on the host`,
    rows,
    goals: [goal('beside `cp --sparse=always`', rows[2].ratio, 1.2), goal('XFS, whole command', rows[6].median, 60, { unit: 'ms' })],
  };
}

async function onFileSystem(workspace, directory, tar, how) {
  const store = workspace.store(directory);
  store.loopbox('template', 'import', 'debian', tar);
  const [template, copy] = [store.templateOf('debian'), `${store.directory}/copy.img`];
  const copying = (text) => ({
    prepare: () => settle(directory),
    run: () => time('sh', ['-ec', text, 'sh', how, template, copy]),
    after: () => rmSync(copy),
  });
  const samples = await alternate(
    {
      cp: copying('exec cp "$@"'),
      durable: copying('cp "$@"; sync "$3"'),
      create: {
        prepare: () => settle(directory),
        run: () => store.time('create', 'bench', '--full', '--template', 'debian'),
        after: () => store.loopbox('rm', 'bench'),
      },
      linked: {
        prepare: () => settle(directory),
        run: () => store.time('create', 'bench', '--linked', '--template', 'debian'),
        after: () => store.loopbox('rm', 'bench'),
      },
    },
    workspace.rounds(21),
  );
  return { samples, size: allocated(template) };
}
