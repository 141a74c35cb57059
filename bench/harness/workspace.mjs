import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { output, time } from './command.mjs';
import { debianTar } from './debian-tar.mjs';

export const repository = join(import.meta.dirname, '../..');
const program = join(repository, 'bin/loopbox');

/** A directory for the measurements' files, and what they are told. Undoes what it is asked to, last in first out. */
export class Workspace {
  #undo = [];
  #options;

  constructor(options) {
    this.#options = options;
    process.env.PATH += ':/usr/sbin:/sbin';
    const place = options.directory ?? join(repository, 'build/bench');
    mkdirSync(place, { recursive: true });
    this.directory = mkdtempSync(join(place, 'work-'));
    this.cleanUp(() => rmSync(this.directory, { recursive: true, force: true }));
  }

  /** Whether other container engines are wanted beside ours. */
  get withPeers() {
    return this.#options.peers;
  }

  /** How many rounds a measurement takes that by itself wants `usual`. */
  rounds(usual) {
    return this.#options.rounds === undefined ? (this.#options.quick ? Math.min(usual, 3) : usual) : Number(this.#options.rounds);
  }

  /** Seconds for a job of fio. */
  get jobSeconds() {
    return Number(this.#options.seconds ?? (this.#options.quick ? 1 : 3));
  }

  path(name) {
    return join(this.directory, name);
  }

  /** The tar of a Debian minbase root file system. */
  debianTar() {
    return this.#options.tar ?? debianTar(join(repository, 'build/bench'));
  }

  /** A store of its own, in the workspace unless told. */
  store(directory = this.directory) {
    const store = new BenchStore(mkdtempSync(join(directory, 'store-')));
    store.close = this.cleanUp(() => store.remove());
    return store;
  }

  /** A directory on an XFS, which has reflinks: a file system in a file, mounted; with `isDirect` on a loop device with direct I/O. */
  xfs(sizeBytes, { isDirect = false } = {}) {
    const directory = mkdtempSync(this.path('xfs-'));
    const [image, target] = [join(directory, 'image'), join(directory, 'mount')];
    writeFileSync(image, '');
    truncateSync(image, sizeBytes);
    mkdirSync(target);
    output('mkfs.xfs', ['-q', '-m', 'reflink=1', '-s', 'size=4096', image]);
    if (isDirect) {
      const device = output('losetup', ['--find', '--show', '--direct-io=on', '--sector-size=4096', image]);
      this.cleanUp(() => output('losetup', ['--detach', device]));
      this.mount(target, device);
    } else this.mount(target, '-o', 'loop', image);
    return target;
  }

  /** Mounts at `target` until the end, or until what this returns is called. */
  mount(target, ...args) {
    output('mount', [...args, target]);
    return this.cleanUp(() => output('umount', [target]));
  }

  /** Has `undo` done at the end, unless the function that this returns has done it before. */
  cleanUp(undo) {
    this.#undo.push(undo);
    return () => {
      this.#undo = this.#undo.filter((one) => one !== undo);
      return undo();
    };
  }

  close() {
    for (const undo of this.#undo.splice(0).reverse()) {
      try {
        undo();
      } catch (error) {
        console.error(`bench: ${error.message}`);
        process.exitCode = 1;
      }
    }
  }
}

/** A root and a run root of their own for bin/loopbox. */
class BenchStore {
  #env;
  #knownComponent;

  constructor(directory) {
    this.directory = directory;
    this.root = join(directory, 'root');
    this.runRoot = join(directory, 'run');
    this.#env = { ...process.env, LOOPBOX_ROOT: this.root, LOOPBOX_RUN_ROOT: this.runRoot };
  }

  /** Milliseconds that `loopbox ARGUMENTS` takes, whole. */
  time(...args) {
    return time(program, args, { env: this.#env });
  }

  /** `loopbox ARGUMENTS` in the background. */
  spawn(...args) {
    return spawn(program, args, { env: this.#env, stdio: ['ignore', 'pipe', 'pipe'] });
  }

  /** What `loopbox ARGUMENTS` prints. */
  loopbox(...args) {
    return output(program, args, { env: this.#env });
  }

  imageOf(name) {
    return join(this.root, 'containers', `${name}.img`);
  }

  templateOf(name) {
    return join(this.root, 'templates', `${name}.img`);
  }

  /** The OCI bundle of a running container. */
  bundleOf(name) {
    return join(this.runRoot, this.#component, name);
  }

  /** Removes all of it; `close` does so no more than once. */
  remove() {
    const names = this.loopbox('ls', '-q').split('\n').filter(Boolean);
    if (names.length > 0) this.loopbox('rm', '-f', '--snapshots', ...names);
    if (existsSync(this.runRoot) && this.#component) rmSync(join('/var/log/loopbox', this.#component), { recursive: true, force: true });
    rmSync(this.directory, { recursive: true, force: true });
  }

  /** What keeps this store's runs apart from other stores'. */
  get #component() {
    this.#knownComponent ??= readdirSync(this.runRoot).find((name) => name.startsWith('_r-'));
    return this.#knownComponent;
  }
}

/** Waits until the file system of `directory` has written what it has, so that no contestant pays for another's writes. */
export function settle(directory) {
  output('sync', ['-f', directory]);
}

/** `191 MiB`: what a file takes on the host. */
export function allocated(path) {
  return `${Math.round((statSync(path).blocks * 512) / 2 ** 20)} MiB`;
}
