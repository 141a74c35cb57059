import { LoopboxError } from './errors';

export interface RunOptions {
  signal?: AbortSignal | undefined;
  /** Descriptors that the program finds as 3, 4, …: a file without a name is given to e2fsprogs as `/dev/fd/3`. */
  fds?: number[];
  env?: Record<string, string>;
  /** Exit codes that are no failure; `[0]` unless told. */
  okCodes?: number[];
}

export interface RunResult {
  code: number;
  stdout: string;
  stderr: string;
}

/** Debian package of each program that loopbox starts, for the hint when it is missing. */
const packages: Record<string, string> = {
  mke2fs: 'e2fsprogs',
  debugfs: 'e2fsprogs',
  e2fsck: 'e2fsprogs',
  mount: 'mount',
  resize2fs: 'e2fsprogs',
  tune2fs: 'e2fsprogs',
  runc: 'runc',
  conmon: 'conmon',
  zstd: 'zstd',
  setpriv: 'util-linux',
  xz: 'xz-utils',
};

/** The environment of every program we start: sbin is not on everybody's PATH, and messages are parsed in English. */
export function programEnvironment(extra: Record<string, string> = {}): NodeJS.ProcessEnv {
  return { ...process.env, PATH: `${process.env.PATH ?? '/usr/bin:/bin'}:/usr/sbin:/sbin`, LC_ALL: 'C', ...extra };
}

/** The error for a program that is not installed. */
export function missingProgram(command: string, cause?: unknown): LoopboxError {
  const name = command.split('/').at(-1) ?? command;
  const debianPackage = packages[name];
  return new LoopboxError('ERR_LOOPBOX_NOT_SUPPORTED', `Cannot run "${command}": the program is not installed`, {
    hint: debianPackage && `apt-get install ${debianPackage}`,
    cause,
  });
}

/**
 * Runs a program to its end with its output captured and no standard input. Killed when `signal` aborts; one that is given descriptors,
 * and with them the locks on what they are open on, also with this process.
 * Throws a LoopboxError with the program's last words when it ends with a code that is not in `okCodes`.
 */
export async function run(command: string, args: string[], options: RunOptions = {}): Promise<RunResult> {
  // Loaded here: it costs 2 ms, and most commands start no program.
  const { spawn } = await import('node:child_process');
  options.signal?.throwIfAborted();
  const [program, ...rest] = options.fds ? dyingWithUs(command, args) : [command, ...args];
  const child = spawn(program, rest, {
    stdio: ['ignore', 'pipe', 'pipe', ...(options.fds ?? [])],
    env: programEnvironment(options.env),
  });
  const kill = () => child.kill('SIGKILL');
  options.signal?.addEventListener('abort', kill, { once: true });
  try {
    const result = await new Promise<RunResult>((resolve, reject) => {
      let stdout = '';
      let stderr = '';
      child.stdout?.setEncoding('utf8').on('data', (text: string) => (stdout += text));
      child.stderr?.setEncoding('utf8').on('data', (text: string) => (stderr += text));
      child.once('error', (error: NodeJS.ErrnoException) => reject(error.code === 'ENOENT' ? missingProgram(program, error) : error));
      child.once('close', (code, signal) => resolve({ code: code ?? (signal ? 128 : 1), stdout, stderr }));
    });
    options.signal?.throwIfAborted();
    if (options.fds && result.code === notFound) throw missingProgram(command);
    if (!(options.okCodes ?? [0]).includes(result.code)) throw programFailure(command, result);
    return result;
  } finally {
    options.signal?.removeEventListener('abort', kill);
  }
}

/** The shell's exit code for a program that is not there. */
const notFound = 127;

/** The kernel kills the program with the process that began it; the shell makes sure that this was still there when the kernel was told to. */
function dyingWithUs(command: string, args: string[]): [string, ...string[]] {
  const script = '[ "$PPID" = "$0" ] && exec "$@"';
  return ['/usr/bin/setpriv', '--pdeathsig', 'KILL', '/bin/sh', '-c', script, String(process.pid), command, ...args];
}

function programFailure(command: string, result: RunResult): LoopboxError {
  const words = (result.stderr.trim() || result.stdout.trim()).split('\n').slice(-3).join('; ');
  const code = /no space left on device/i.test(words) ? 'ERR_LOOPBOX_NO_SPACE' : 'ERR_LOOPBOX_FAILED';
  return new LoopboxError(code, `Cannot finish "${command}": it ended with ${result.code}${words ? `: ${words}` : ''}`);
}
