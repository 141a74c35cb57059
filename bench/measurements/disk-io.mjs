import { copyFileSync, mkdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { output } from '../harness/command.mjs';
import { alternate, goal, row } from '../harness/samples.mjs';

const file = 'fio.data';
const jobs = [
  { name: '4k randread QD1', args: ['--rw=randread', '--bs=4k', '--iodepth=1'], figure: ({ read }) => read.iops, unit: 'IOPS' },
  { name: '4k randread QD32', args: ['--rw=randread', '--bs=4k', '--iodepth=32'], figure: ({ read }) => read.iops, unit: 'IOPS' },
  { name: '4k randwrite QD1', args: ['--rw=randwrite', '--bs=4k', '--iodepth=1'], figure: ({ write }) => write.iops, unit: 'IOPS' },
  { name: '4k randwrite QD32', args: ['--rw=randwrite', '--bs=4k', '--iodepth=32'], figure: ({ write }) => write.iops, unit: 'IOPS' },
  { name: '1M read QD8', args: ['--rw=read', '--bs=1M', '--iodepth=8'], figure: ({ read }) => read.bw_bytes / 2 ** 20, unit: 'MiB/s' },
  { name: '1M write QD8', args: ['--rw=write', '--bs=1M', '--iodepth=8'], figure: ({ write }) => write.bw_bytes / 2 ** 20, unit: 'MiB/s' },
];

/** fio inside a container, beside the same jobs on the same file on the host: its image mounted on a plain loop device with direct I/O. */
export async function measure(workspace) {
  const store = workspace.store();
  const sizeBytes = 4 * 2 ** 30;
  store.loopbox('template', 'import', 'fio', fioTar(workspace), '--size', '4G');
  store.loopbox('create', 'bench', '--template', 'fio', '--', 'sleep', 'infinity');
  const inContainer = (command) => store.loopbox('exec', 'bench', ...command);
  store.loopbox('start', 'bench');
  // Fully written, so that no job meets a hole.
  inContainer(fio(file, ['--rw=write', '--bs=1M', '--iodepth=8', '--end_fsync=1']));
  store.loopbox('stop', '-t', '0', 'bench');

  const seconds = workspace.jobSeconds;
  const results = (run) => () => jobs.map(({ args, figure }) => figure(JSON.parse(run(args)).jobs[0]));
  const timed = (args) => [...args, '--time_based', `--runtime=${seconds}`];
  let detach;
  const samples = await alternate(
    {
      host: {
        prepare: () => (detach = attach(workspace, store.imageOf('bench'), sizeBytes)),
        run: results((args) => output('sh', ['-ec', 'exec "$@"', 'sh', ...fio(workspace.path(`mount/${file}`), timed(args))])),
        after: () => detach(),
      },
      container: {
        prepare: () => store.loopbox('start', 'bench'),
        run: results((args) => inContainer(fio(file, timed(args)))),
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

function fio(filename, args) {
  const common = ['--name=job', '--ioengine=libaio', '--direct=1', '--size=1G', '--randrepeat=0', '--output-format=json'];
  return ['fio', `--filename=${filename}`, ...common, ...args];
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

/** A root file system of the host's fio, what it is linked with, and busybox. */
function fioTar(workspace) {
  const tree = workspace.path('fio');
  const programs = ['fio', 'busybox'].map((name) => output('sh', ['-c', 'command -v "$1"', 'sh', name]));
  const libraries = output('ldd', [programs[0]]).match(/\/\S+/g);
  for (const path of [...programs, ...libraries]) {
    mkdirSync(dirname(join(tree, path)), { recursive: true });
    copyFileSync(path, join(tree, path));
  }
  for (const directory of ['bin', 'dev', 'etc', 'proc', 'sys', 'tmp']) mkdirSync(join(tree, directory), { recursive: true });
  output('ln', ['-s', programs[1], join(tree, 'bin/sleep')]);
  const tar = workspace.path('fio.tar');
  output('tar', ['-C', tree, '-cf', tar, '.']);
  return tar;
}
