import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { output, time } from '../harness/command.mjs';

/** The OCI runtime by itself, with our config, on a plain directory. */
export class Runc {
  names = { start: '`runc run -d` of a directory', exec: '`runc exec`' };
  #bundle;
  #globalArguments;

  constructor(workspace, rootfs, config) {
    this.#bundle = workspace.path('bundle');
    mkdirSync(this.#bundle, { recursive: true });
    const linux = { ...config.linux, cgroupsPath: '/loopbox-bench' };
    writeFileSync(join(this.#bundle, 'config.json'), JSON.stringify({ ...config, root: { path: rootfs, readonly: false }, linux }));
    this.#globalArguments = ['--root', workspace.path('runc')];
    workspace.cleanUp(() => this.stop());
  }

  start() {
    // The container keeps the standard streams: a pipe would be waited for until its end.
    return time('runc', [...this.#globalArguments, 'run', '--detach', '--bundle', this.#bundle, 'bench'], { stdio: 'ignore' });
  }

  exec() {
    return time('runc', [...this.#globalArguments, 'exec', 'bench', 'true']);
  }

  stop() {
    output('runc', [...this.#globalArguments, 'delete', '--force', 'bench']);
  }
}
