import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync, readdirSync, readFileSync, statSync } from 'node:fs';
import type { Duplex } from 'node:stream';
import { LoopboxError } from '../errors';
import { programEnvironment } from '../process';
import { findProgram } from './find-program';
import type { RunDirectory } from './run-directory';
import { describeRuntimeFailure } from './runtime-messages';

export interface MonitorRequest {
  directory: RunDirectory;
  logPath: string;
  logBytes: number;
  /** What the monitor runs to create the container: a program, and arguments that come before `create --bundle …`. */
  runtime: string[];
  /** Run once the container has ended; the program by absolute path. */
  exitCommand: string[];
  terminal: boolean;
  stdin: boolean;
}

/** How long after its last step a runtime may take to end. */
const silenceMs = 2000;

/**
 * conmon, which outlives its starter: it creates the container by way of the OCI runtime, holds its log and its terminal, and tells
 * how it ended. It waits with all of it until `release`, so that it can be moved to a cgroup of its own first.
 */
export class Monitor {
  readonly #child: ChildProcess;
  readonly #directory: RunDirectory;
  readonly #output: Promise<string>;
  readonly #words: Promise<string>;
  readonly #forked: Promise<unknown>;

  private constructor(child: ChildProcess, directory: RunDirectory) {
    this.#child = child;
    this.#directory = directory;
    this.#forked = new Promise((resolve) => child.once('exit', resolve));
    // A monitor that was killed is seen by what it does not answer.
    for (const stream of child.stdio) stream?.on('error', () => {});
    this.#words = readAll(child.stdio[2] as Duplex);
    this.#output = readAll(child.stdio[4] as Duplex);
  }

  static async spawn(request: MonitorRequest): Promise<Monitor> {
    const { directory } = request;
    const nullFd = openSync('/dev/null', 'r+');
    try {
      const child = spawn(findProgram('conmon'), conmonArguments(request), {
        detached: true,
        // conmon also writes a file `oom` where it works, and must not pin the caller's directory.
        cwd: directory.root,
        env: conmonEnvironment(directory),
        stdio: ['ignore', 'ignore', 'pipe', 'pipe', 'pipe', ...coverLeaks(5, nullFd)],
      });
      await once(child, 'spawn');
      return new Monitor(child, directory);
    } finally {
      closeSync(nullFd);
    }
  }

  /** The process to move; what does the work is its child after `release`. */
  get pid(): number {
    return this.#child.pid ?? 0;
  }

  release(): void {
    (this.#child.stdio[3] as Duplex).end('\0');
  }

  /** The container's first process once it is created. Throws with the runtime's reason, or says that there is none. */
  async created(): Promise<number> {
    const answer = await this.#answer();
    await this.#forked;
    if (answer.data !== undefined && answer.data > 0) return answer.data;
    if (answer.message) throw describeRuntimeFailure('start', this.#directory.id, answer.message);
    const words = (await this.#words).trim();
    throw new LoopboxError(
      'ERR_LOOPBOX_FAILED',
      `Cannot start "${this.#directory.id}": its monitor or runtime ended before it was created${words && ` (${words})`}`,
    );
  }

  /**
   * A runtime that was killed just before its own end, with its container made, leaves conmon waiting for the end of a pipe that the
   * container holds: conmon never answers then. (Killed earlier, it leaves to the guardian what has to die.)
   */
  async #answer(): Promise<{ data?: number; message?: string }> {
    let timer: NodeJS.Timeout | undefined;
    const silence = new Promise<string>((resolve) => {
      timer = setInterval(() => {
        const made = statSync(this.#directory.pidFile, { throwIfNoEntry: false });
        if (made && Date.now() - made.mtimeMs > silenceMs) resolve('');
      }, 200);
    });
    try {
      const line = (await Promise.race([this.#output, silence])).split('\n', 1)[0] ?? '';
      return line === '' ? {} : (JSON.parse(line) as { data?: number; message?: string });
    } finally {
      clearInterval(timer);
    }
  }

  /** Lets go of the monitor, or kills it where it has not been released yet. */
  close(): void {
    if (this.#child.exitCode === null && this.#child.signalCode === null) this.#child.kill('SIGKILL');
    for (const stream of this.#child.stdio) stream?.destroy();
    this.#child.unref();
  }
}

function conmonArguments(request: MonitorRequest): string[] {
  const { directory } = request;
  const [runtime = '', ...runtimeArguments] = request.runtime;
  const [exitCommand = '', ...exitArguments] = request.exitCommand;
  return [
    ['--api-version', '1'],
    ['--cid', directory.id, '--cuuid', directory.id, '--name', directory.id],
    ['--bundle', directory.root, '--persist-dir', directory.persistDir, '--full-attach'],
    ['--container-pidfile', directory.pidFile, '--conmon-pidfile', directory.conmonPidFile],
    ['--log-path', `k8s-file:${request.logPath}`, '--log-size-max', String(request.logBytes)],
    ['--runtime', runtime, ...runtimeArguments.flatMap((argument) => ['--runtime-arg', argument])],
    ['--exit-command', exitCommand, ...exitArguments.flatMap((argument) => ['--exit-command-arg', argument])],
    request.terminal ? ['--terminal'] : [],
    // Without --leave-stdin-open the attach client's end of input is the container's.
    request.stdin ? ['--stdin'] : [],
  ].flat();
}

/** Nothing of the caller's: NOTIFY_SOCKET or LISTEN_FDS would make the runtime serve the caller's service manager. */
function conmonEnvironment(directory: RunDirectory): Record<string, string> {
  const { PATH = '', LC_ALL = '' } = programEnvironment();
  // The terminal's socket, at `$TMPDIR/conmon-term.XXXXXX`, has to fit into an address of 108 bytes.
  const temporary = Buffer.byteLength(directory.root) <= 80 ? { TMPDIR: directory.root } : {};
  return { PATH, LC_ALL, _OCI_STARTPIPE: '3', _OCI_SYNCPIPE: '4', ...temporary };
}

/**
 * Covers descriptors that would be inherited by /dev/null: a lock that the caller's caller left open (`exec 200>lock` in a shell)
 * would be held for the container's life. Node's own are all close-on-exec.
 */
function coverLeaks(first: number, nullFd: number): (number | 'ignore')[] {
  const leaks = readdirSync('/proc/self/fd')
    .map(Number)
    .filter((fd) => fd >= first && isInherited(fd));
  const length = leaks.length > 0 ? Math.max(...leaks) + 1 - first : 0;
  return Array.from({ length }, (_, index) => (leaks.includes(first + index) ? nullFd : 'ignore'));
}

const closeOnExec = 0o2000000;

function isInherited(fd: number): boolean {
  try {
    const flags = /^flags:\s+(\d+)/m.exec(readFileSync(`/proc/self/fdinfo/${fd}`, 'utf8'))?.[1];
    return flags !== undefined && (Number.parseInt(flags, 8) & closeOnExec) === 0;
  } catch {
    return false; // Closed meanwhile.
  }
}

async function readAll(stream: Duplex): Promise<string> {
  let text = '';
  try {
    for await (const chunk of stream.setEncoding('utf8')) {
      text += chunk;
      if (text.endsWith('}\n')) break;
    }
  } catch {
    // Whoever closes the stream early has no use for the text.
  }
  return text;
}
