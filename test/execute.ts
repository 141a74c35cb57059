import { type ChildProcess, spawn } from 'node:child_process';
import { constants } from 'node:os';

export interface ExecuteOptions {
  env?: Record<string, string | undefined>;
  cwd?: string;
  /** What the program reads from its standard input; nothing unless told. */
  input?: string | Uint8Array;
  /** Ends the program with SIGKILL when it aborts. */
  signal?: AbortSignal;
  /** Called with the running program: to send it signals, or to watch it. */
  onStart?: (child: ChildProcess) => void;
  /** A program that takes longer is killed, and the test fails; three minutes unless told. */
  timeoutMs?: number;
}

export interface ExecuteResult {
  /** The exit code, or 128 and the signal's number, as a shell has it. */
  code: number;
  stdout: string;
  stderr: string;
  /** Standard output as bytes. */
  output: Buffer;
}

/** The environment of this process without what is meant for it alone. NODE_EXTRA_CA_CERTS costs each start of Node 50 ms. */
export function plainEnvironment(): NodeJS.ProcessEnv {
  const foreign =
    /^(NODE_EXTRA_CA_CERTS|NODE_OPTIONS|NODE_ENV|NODE_PATH|TEST|FORCE_TTY|(LOOPBOX|VITEST|npm)_.*|VITEST|MODE|DEV|PROD|SSR|BASE_URL)$/;
  return Object.fromEntries(Object.entries(process.env).filter(([name]) => !foreign.test(name)));
}

/** Runs a program until it has ended and all that hold its output have closed it. Any exit code is a result. */
export async function execute(command: string, args: string[], options: ExecuteOptions = {}): Promise<ExecuteResult> {
  const child = spawn(command, args, {
    cwd: options.cwd,
    env: { ...plainEnvironment(), PATH: `${process.env.PATH}:/usr/sbin:/sbin`, LC_ALL: 'C', ...options.env },
    signal: options.signal,
    killSignal: 'SIGKILL',
  });
  const stdout: Buffer[] = [];
  const stderr: Buffer[] = [];
  child.stdout.on('data', (chunk: Buffer) => stdout.push(chunk));
  child.stderr.on('data', (chunk: Buffer) => stderr.push(chunk));
  // A program that does not read its input is no failure.
  child.stdin.on('error', () => {});
  child.stdin.end(options.input ?? '');
  options.onStart?.(child);
  return new Promise((resolve, reject) => {
    const timeoutMs = options.timeoutMs ?? 180_000;
    const timer = setTimeout(() => {
      child.kill('SIGKILL');
      const said = `stdout: ${text(stdout)}\nstderr: ${text(stderr)}`;
      reject(new Error(`"${command} ${args.join(' ')}" takes longer than ${timeoutMs} ms.\n${said}`));
    }, timeoutMs);
    child.on('error', (error) => {
      if (error.name === 'AbortError') return;
      clearTimeout(timer);
      reject(error);
    });
    child.on('close', (exitCode, signal) => {
      clearTimeout(timer);
      const code = exitCode ?? 128 + (signal ? constants.signals[signal] : 0);
      const output = Buffer.concat(stdout);
      resolve({ code, stdout: output.toString(), stderr: text(stderr), output });
    });
  });
}

function text(chunks: Buffer[]): string {
  return Buffer.concat(chunks).toString();
}

/** Runs a program that must end with 0; returns its standard output, trimmed. */
export async function shell(command: string, ...args: string[]): Promise<string> {
  const result = await execute(command, args);
  if (result.code !== 0) throw new Error(`"${command} ${args.join(' ')}" ended with ${result.code}: ${result.stderr || result.stdout}`);
  return result.stdout.trim();
}
