import { mkdirSync } from 'node:fs';
import { output } from '../harness/command.mjs';
import { diskJobs as jobs, fio, fioTar, timed } from '../harness/fio.mjs';
import { alternate, goal, row } from '../harness/samples.mjs';

const file = 'fio.data';
const size = '--size=1G';

/** fio inside a container, beside the same jobs on the same file on the host: its image mounted on a plain loop device with direct I/O. */
export async function measure(workspace) {
  const store = workspace.store();
  const sizeBytes = 4 * 2 ** 30;
  store.loopbox('template', 'import', 'fio', fioTar(workspace), '--size', '4G');
  store.loopbox('create', 'bench', '--full', '--attach', 'direct', '--template', 'fio', '--', 'sleep', 'infinity');
  const inContainer = (command) => store.loopbox('exec', 'bench', ...command);
  store.loopbox('start', 'bench');
  // Fully written, so that no job meets a hole.
  inContainer(fio(file, ['--rw=write', '--bs=1M', '--iodepth=8', '--end_fsync=1', size]));
  store.loopbox('stop', '-t', '0', 'bench');

  const seconds = workspace.jobSeconds;
  const results = (run) => () => jobs.map(({ args, figure }) => figure(JSON.parse(run(args)).jobs[0]));
  const whole = (args) => [...args, size, ...timed(seconds)];
  let detach;
  const samples = await alternate(
    {
      host: {
        prepare: () => (detach = attach(workspace, store.imageOf('bench'), sizeBytes)),
        run: results((args) => output('sh', ['-ec', 'exec "$@"', 'sh', ...fio(workspace.path(`mount/${file}`), whole(args))])),
        after: () => detach(),
      },
      container: {
        prepare: () => store.loopbox('start', 'bench'),
        run: results((args) => inContainer(fio(file, whole(args)))),
        after: () => store.loopbox('stop', '-t', '0', 'bench'),
      },
    },
    workspace.rounds(5),
    { warmUps: 0 },
  );
  const pairs = jobs.map(({ name, unit }, job) => {
    const [host, container] = [samples.host, samples.container].map((rounds) => rounds.map((figures) => figures[job]));
    return { name, rows: [row(`${name}: loop device`, host, { unit }), row(`${name}: container`, container, { unit, reference: host })] };
  });
  return {
    title: `Disk I/O (fio, libaio, O_DIRECT, ${seconds} s a job)`,
    rows: pairs.flatMap(({ rows }) => rows),
    goals: pairs.map(({ name, rows }) => goal(name, rows[1].ratio, 0.97, { better: 'more' })),
  };
}

/** Mounts the image as anybody would who wants the loop device's best. Returns what undoes it. */
function attach(workspace, image, sizeBytes) {
  const target = workspace.path('mount');
  mkdirSync(target, { recursive: true });
  const flags = ['--direct-io=on', '--sector-size=4096', `--sizelimit=${sizeBytes}`];
  const device = output('losetup', ['--find', '--show', ...flags, image]);
  const release = workspace.cleanUp(() => output('losetup', ['--detach', device]));
  const unmount = workspace.mount(target, '-o', 'noatime,nodev', device);
  return () => {
    unmount();
    release();
  };
}
