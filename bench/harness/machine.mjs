import { readFileSync } from 'node:fs';
import { cpus, loadavg, release, totalmem } from 'node:os';
import { firstLine, output } from './command.mjs';

/** What the figures were taken on. `directory` is where the files lie. */
export function describeMachine(directory) {
  const distribution = /^PRETTY_NAME="(.*)"$/m.exec(readFileSync('/etc/os-release', 'utf8'))?.[1];
  const [source, type, options] = output('findmnt', ['-n', '-o', 'SOURCE,FSTYPE,OPTIONS', '-T', directory]).split(/\s+/);
  return {
    date: new Date().toISOString().slice(0, 16).replace('T', ' '),
    CPU: `${cpus().length} × ${cpus()[0]?.model}`,
    memory: `${Math.round(totalmem() / 2 ** 30)} GiB`,
    kernel: release(),
    distribution,
    files: `${type} on ${source} (${options})`,
    load: loadavg()
      .map((load) => load.toFixed(2))
      .join(' '),
    node: process.version,
    loopbox: firstLine('git', '-C', directory, 'describe', '--always', '--dirty'),
    runc: firstLine('runc', '--version'),
    conmon: firstLine('conmon', '--version'),
    e2fsprogs: firstLine('mke2fs', '-V'),
    coreutils: firstLine('cp', '--version'),
    tar: firstLine('tar', '--version'),
    fio: firstLine('fio', '--version'),
    xfsprogs: firstLine('mkfs.xfs', '-V'),
    containerd: firstLine('containerd', '--version'),
    'qemu-storage-daemon': firstLine('qemu-storage-daemon', '--version'),
    command: ['npm run bench --', ...process.argv.slice(2)].join(' '),
  };
}
