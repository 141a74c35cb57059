import { copyFileSync, existsSync, mkdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { output } from './command.mjs';

const iops = (side) => (job) => job[side].iops;
const rate = (side) => (job) => job[side].bw_bytes / 2 ** 20;

/** What is asked of a disk. `figure` takes it out of what fio reports of the job. */
export const diskJobs = [
  { name: '4k randread QD1', args: ['--rw=randread', '--bs=4k', '--iodepth=1'], figure: iops('read'), unit: 'IOPS' },
  { name: '4k randread QD32', args: ['--rw=randread', '--bs=4k', '--iodepth=32'], figure: iops('read'), unit: 'IOPS' },
  { name: '4k randwrite QD1', args: ['--rw=randwrite', '--bs=4k', '--iodepth=1'], figure: iops('write'), unit: 'IOPS' },
  { name: '4k randwrite QD32', args: ['--rw=randwrite', '--bs=4k', '--iodepth=32'], figure: iops('write'), unit: 'IOPS' },
  { name: '1M read QD8', args: ['--rw=read', '--bs=1M', '--iodepth=8'], figure: rate('read'), unit: 'MiB/s' },
  { name: '1M write QD8', args: ['--rw=write', '--bs=1M', '--iodepth=8'], figure: rate('write'), unit: 'MiB/s' },
];

/** A write of 4 KiB that is durable before the next one begins. */
export const syncedWrite = {
  name: '4k write + fdatasync',
  args: ['--rw=randwrite', '--bs=4k', '--iodepth=1', '--fdatasync=1'],
  figure: iops('write'),
  unit: 'IOPS',
};

export const isRead = ({ args }) => args[0].endsWith('read');

/** The command of a job on a file or a device. */
export function fio(filename, args) {
  const common = ['--name=job', '--ioengine=libaio', '--direct=1', '--randrepeat=0', '--output-format=json'];
  return ['fio', `--filename=${filename}`, ...common, ...args];
}

/** How a job is run, to be repeated by hand. */
export const fioNote = (job, seconds) => `A job: \`${fio('/dev/loopN', [...job.args, ...timed(seconds)]).join(' ')}\`.`;

/** What fio says of the one job that it ran. */
export function runFio(filename, args) {
  const [command, ...rest] = fio(filename, args);
  return JSON.parse(output(command, rest)).jobs[0];
}

/** A while at its beginning does not count: a device at rest, its processes and the CPUs take some time to get going. */
export const timed = (seconds) => ['--time_based', '--ramp_time=300ms', `--runtime=${Math.round(seconds * 1000)}ms`];

/** Has every byte of a file written, and lets none of it stay in the page cache. */
export function fill(path, sizeBytes, offsetBytes = 0) {
  runFio(path, ['--rw=write', '--bs=1M', '--iodepth=8', '--end_fsync=1', `--offset=${offsetBytes}`, `--size=${sizeBytes}`]);
}

/** A root file system of the host's fio, what it is linked with, and busybox. */
export function fioTar(workspace) {
  const tar = workspace.path('fio.tar');
  if (existsSync(tar)) return tar;
  const tree = workspace.path('fio');
  const programs = ['fio', 'busybox'].map((name) => output('sh', ['-c', 'command -v "$1"', 'sh', name]));
  const libraries = output('ldd', [programs[0]]).match(/\/\S+/g);
  for (const path of [...programs, ...libraries]) {
    mkdirSync(dirname(join(tree, path)), { recursive: true });
    copyFileSync(path, join(tree, path));
  }
  for (const directory of ['bin', 'dev', 'etc', 'proc', 'sys', 'tmp']) mkdirSync(join(tree, directory), { recursive: true });
  for (const name of ['cat', 'dd', 'killall', 'sleep']) output('ln', ['-s', programs[1], join(tree, `bin/${name}`)]);
  output('tar', ['-C', tree, '-cf', tar, '.']);
  return tar;
}
