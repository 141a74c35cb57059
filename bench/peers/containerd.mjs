import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { copyFileSync, linkSync, mkdirSync, mkdtempSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { output, time } from '../harness/command.mjs';

const image = 'docker.io/library/bench:latest';

/** Debian's containerd with its own client, `ctr`, on a root, a state directory and a socket of its own: overlayfs, no seccomp. */
export class Containerd {
  names = { start: '`ctr run -d`', exec: '`ctr task exec`' };
  #globalArguments;

  constructor(socket) {
    this.#globalArguments = ['--address', socket];
  }

  static async start(workspace) {
    if (spawnSync('containerd', ['--version']).error) install();
    const directory = mkdtempSync(workspace.path('containerd-'));
    const [config, socket] = [join(directory, 'config.toml'), join(directory, 'socket')];
    writeFileSync(config, 'version = 2\ndisabled_plugins = ["io.containerd.grpc.v1.cri"]\n');
    const folders = ['--root', join(directory, 'root'), '--state', join(directory, 'state'), '--address', socket];
    const daemon = spawn('containerd', ['--config', config, '--log-level', 'error', ...folders], { stdio: 'ignore' });
    workspace.cleanUp(() => daemon.kill());
    const containerd = new Containerd(socket);
    await containerd.#isUp();
    containerd.#ctr('image', 'import', dockerArchive(directory, workspace.debianTar()));
    workspace.cleanUp(() => containerd.stop());
    return containerd;
  }

  start() {
    return time('ctr', [...this.#globalArguments, 'run', '--detach', image, 'bench'], { stdio: 'ignore' });
  }

  exec() {
    return time('ctr', [...this.#globalArguments, 'task', 'exec', '--exec-id', 'bench', 'bench', 'true']);
  }

  stop() {
    for (const args of [
      ['task', 'rm', '--force', 'bench'],
      ['container', 'rm', 'bench'],
    ]) {
      spawnSync('ctr', [...this.#globalArguments, ...args], { stdio: 'ignore' });
    }
  }

  async #isUp() {
    for (let tries = 0; tries < 100; tries++, await sleep(50)) {
      if (spawnSync('ctr', [...this.#globalArguments, 'version']).status === 0) return;
    }
    throw new Error('containerd does not answer');
  }

  #ctr(...args) {
    return output('ctr', [...this.#globalArguments, ...args]);
  }
}

function install() {
  console.error('bench: installing containerd …');
  execFileSync('apt-get', ['install', '-y', '--no-install-recommends', 'containerd'], { stdio: 'ignore' });
}

/** The root file system as `docker save` writes images: one layer, and what to run. */
function dockerArchive(directory, tar) {
  const place = join(directory, 'image');
  mkdirSync(place);
  try {
    linkSync(tar, join(place, 'layer.tar'));
  } catch {
    copyFileSync(tar, join(place, 'layer.tar'));
  }
  const [digest] = output('sha256sum', [tar]).split(' ');
  const config = { Cmd: ['sleep', 'infinity'], Env: ['PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'] };
  const rootfs = { type: 'layers', diff_ids: [`sha256:${digest}`] };
  writeFileSync(join(place, 'config.json'), JSON.stringify({ architecture: 'amd64', os: 'linux', config, rootfs }));
  writeFileSync(join(place, 'manifest.json'), JSON.stringify([{ Config: 'config.json', RepoTags: [image], Layers: ['layer.tar'] }]));
  const archive = join(directory, 'image.tar');
  output('tar', ['-C', place, '-cf', archive, 'manifest.json', 'config.json', 'layer.tar']);
  return archive;
}
