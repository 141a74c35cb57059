import { type Dirent, existsSync, mkdirSync, readdirSync, realpathSync } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { isSystemError, LoopboxError } from '../errors';
import { parseFileName } from '../image/file-names';
import { defaultTransport, type Transport } from '../loop/transports';
import { RunDirectory } from '../runtime/run-directory';
import { isContainerName, isTemplateName } from './names';

export { defaultTransport, type Transport, transports } from '../loop/transports';
export const defaultRoot = '/var/lib/loopbox';
export const defaultRunRoot = '/run/loopbox';
export const defaultRuntime = 'runc';
const logRoot = '/var/log/loopbox';

export interface StoreOptions {
  /** Where containers and templates lie; `/var/lib/loopbox` unless told. */
  root?: string | undefined;
  /** Where what runs keeps its bundle; `/run/loopbox` unless told. */
  runRoot?: string | undefined;
  /** The OCI runtime, by name or path; `runc` unless told. */
  runtime?: string | undefined;
  /** What brings requests to storage servers; `fuse` unless told. */
  transport?: Transport | undefined;
}

/** The directory that holds the containers and templates of one root, and where their run directories and logs are. */
export class Store {
  readonly root: string;
  readonly runRoot: string;
  readonly runtime: string;
  readonly transport: Transport;
  readonly containersDirectory: string;
  readonly templatesDirectory: string;
  /** Keeps the run directories, cgroups and logs of different roots apart; missing for the default root. */
  readonly component: string | undefined;

  constructor(options: StoreOptions = {}) {
    this.root = canonical(options.root ?? defaultRoot);
    this.runRoot = resolve(options.runRoot ?? defaultRunRoot);
    this.runtime = options.runtime ?? defaultRuntime;
    this.transport = options.transport ?? defaultTransport;
    this.containersDirectory = join(this.root, 'containers');
    this.templatesDirectory = join(this.root, 'templates');
    this.component = this.root === defaultRoot ? undefined : `_r-${shortHash(this.root)}`;
  }

  /** Makes the store's directories where they are missing. */
  prepare(): void {
    for (const directory of [this.containersDirectory, this.templatesDirectory]) mkdirSync(directory, { recursive: true, mode: 0o700 });
  }

  /** Where a container's present is: `NAME.delta` where there is that and no `NAME.img`, which a new container gets. */
  containerPath(name: string): string {
    const image = join(this.containersDirectory, `${name}.img`);
    const delta = join(this.containersDirectory, `${name}.delta`);
    return !existsSync(image) && existsSync(delta) ? delta : image;
  }

  templatePath(name: string): string {
    return join(this.templatesDirectory, `${name}.img`);
  }

  verbLockPath(name: string): string {
    return join(this.root, '.locks', name);
  }

  /** The verb lock of a FILE, which may lie where no lock file can be made. */
  fileLockPath(id: string): string {
    return join(this.runRoot, '.locks', id);
  }

  logPath(id: string): string {
    return join(logRoot, ...(this.component ? [this.component] : []), `${id}.log`);
  }

  runDirectory(id: string): RunDirectory {
    return new RunDirectory({ runRoot: this.runRoot, component: this.component, id });
  }

  /** Ids of all run directories of this root: names, and `_f-…` of files. */
  runIds(): string[] {
    const directory = join(this.runRoot, ...(this.component ? [this.component] : []));
    return list(directory)
      .map(({ name }) => name)
      .filter((id) => isContainerName(id) || id.startsWith('_f-'));
  }

  containerNames(): string[] {
    return fileNames(this.containersDirectory, '.img', '.delta').filter(isContainerName);
  }

  /** The names of all containers of which there is any file: of the present, of the past, or left by a command that was killed. */
  namesOfFiles(): string[] {
    return [...new Set(this.#fileNames().flatMap((fileName) => parseFileName(fileName)?.name ?? []))].sort();
  }

  /** What the files of a container are called, whatever they are to it. */
  fileNamesOf(name: string): string[] {
    return this.#fileNames().filter((fileName) => parseFileName(fileName)?.name === name);
  }

  /** The containers that a command prepared a present for, which it did not finish, or has not yet. */
  interruptedNames(): string[] {
    return this.#fileNames().flatMap((fileName) => {
      const parsed = parseFileName(fileName);
      return parsed?.role === 'next' ? parsed.name : [];
    });
  }

  /** The containers of which there are files, but no present: it was taken away, or a rename was killed right after it. */
  absentNames(): string[] {
    const parsed = this.#fileNames().flatMap((fileName) => parseFileName(fileName) ?? []);
    const present = new Set(parsed.flatMap(({ role, name }) => (role === 'top' ? name : [])));
    return [...new Set(parsed.map(({ name }) => name))].filter((name) => !present.has(name));
  }

  /** Whether any container may stand on another file than its own. */
  hasDeltas(): boolean {
    return this.#fileNames().some((fileName) => fileName.endsWith('.delta'));
  }

  #fileNames(): string[] {
    return list(this.containersDirectory).flatMap((entry) => (entry.isFile() ? entry.name : []));
  }

  templateNames(): string[] {
    return fileNames(this.templatesDirectory, '.img').filter(isTemplateName);
  }
}

/** What bears such an ending and is a file itself: a symbolic link in the store is none of its containers. */
function fileNames(directory: string, ...endings: string[]): string[] {
  const files = list(directory).filter((entry) => entry.isFile());
  const names = endings.flatMap((ending) =>
    files.filter(({ name }) => name.endsWith(ending)).map(({ name }) => name.slice(0, -ending.length)),
  );
  return [...new Set(names)].sort();
}

function list(directory: string): Dirent[] {
  try {
    return readdirSync(directory, { withFileTypes: true });
  } catch (error) {
    if (isSystemError(error, 'ENOENT')) return [];
    throw error;
  }
}

/** Two ways to write one root must not make two of it, nor the making of it. */
function canonical(path: string): string {
  const absolute = resolve(path);
  try {
    return realpathSync(absolute);
  } catch (error) {
    if (!isSystemError(error, 'ENOENT') || absolute === '/') throw error;
    return join(canonical(dirname(absolute)), basename(absolute));
  }
}

/** FNV-1a, 32 bits, as 8 hexadecimal digits: enough to tell roots apart, and loading node:crypto costs 2 ms. */
export function shortHash(text: string): string {
  let hash = 0x811c9dc5;
  for (const byte of Buffer.from(text)) hash = Math.imul(hash ^ byte, 0x01000193) >>> 0;
  return hash.toString(16).padStart(8, '0');
}

/** Loop devices, mounts and namespaces are root's. Throws ERR_LOOPBOX_NOT_PERMITTED for anybody else. */
export function requireRoot(): void {
  if (process.geteuid?.() === 0) return;
  throw new LoopboxError('ERR_LOOPBOX_NOT_PERMITTED', 'Cannot run "loopbox": it needs root', { hint: 'sudo loopbox …' });
}
