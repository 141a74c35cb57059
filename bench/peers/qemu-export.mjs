import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { kernelLoop } from '../stack/devices.mjs';

/** Whether there is a qemu-storage-daemon; with `--peers` it is installed where it is missing. */
export function hasQemuExport(workspace) {
  const isThere = () => !spawnSync('qemu-storage-daemon', ['--version']).error;
  if (isThere() || !workspace.withPeers) return isThere();
  console.error('bench: installing qemu-system-common …');
  execFileSync('apt-get', ['install', '-y', '--no-install-recommends', 'qemu-system-common'], { stdio: 'ignore' });
  return true;
}

/** QEMU's storage daemon with a FUSE export of a raw file, and the kernel's loop device with direct I/O on that. */
export async function qemuExport(workspace, file, sizeBytes) {
  const target = workspace.path('qemu-export');
  writeFileSync(target, '');
  const source = `driver=file,node-name=file,filename=${file},cache.direct=on,aio=native`;
  const shown = `type=fuse,id=export,node-name=file,mountpoint=${target},writable=on`;
  const daemon = spawn('qemu-storage-daemon', ['--blockdev', source, '--export', shown], { stdio: ['ignore', 'ignore', 'pipe'] });
  let words = '';
  daemon.stderr.on('data', (data) => (words += data));
  const ended = new Promise((resolve) => daemon.once('exit', resolve));
  const stop = workspace.cleanUp(() => daemon.kill());
  for (let tries = 0; !readFileSync('/proc/mounts', 'utf8').includes(` ${target} `); tries++, await sleep(20)) {
    if (tries === 250 || daemon.exitCode !== null) throw new Error(`qemu-storage-daemon does not export: ${words}`);
  }
  const loop = kernelLoop(workspace, target, sizeBytes);
  const close = async () => {
    loop.close();
    stop();
    await ended;
  };
  return { path: loop.path, pids: [daemon.pid], close };
}
