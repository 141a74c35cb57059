import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { plainEnvironment } from './execute';

/** A shell that runs one command after the other, as somebody who follows a document does. */
export class ConsoleSession implements AsyncDisposable {
  readonly #shell: ChildProcessWithoutNullStreams;
  readonly #mark = `end-of-output-${process.pid}`;
  #output = '';

  constructor(options: { cwd: string; env: Record<string, string> }) {
    this.#shell = spawn('bash', ['--noprofile', '--norc'], {
      cwd: options.cwd,
      env: { ...plainEnvironment(), LC_ALL: 'C.UTF-8', ...options.env },
    });
    this.#shell.stdout.setEncoding('utf8').on('data', (text: string) => (this.#output += text));
    this.#shell.stdin.write('exec 2>&1\n');
  }

  /** Runs a command; returns what it printed on both outputs. Throws when it takes longer than a minute, or ends the shell. */
  async run(command: string): Promise<string> {
    const quoted = `'${command.replaceAll("'", "'\\''")}'`;
    this.#shell.stdin.write(`eval ${quoted} </dev/null; printf '%s\\n' ${this.#mark}\n`);
    const deadline = Date.now() + 60_000;
    while (!this.#output.includes(`${this.#mark}\n`)) {
      if (Date.now() > deadline) throw new Error(`"${command}" does not end; so far: ${this.#output}`);
      if (this.#shell.exitCode !== null) throw new Error(`"${command}" has ended the shell: ${this.#output}`);
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    const [output = '', ...rest] = this.#output.split(`${this.#mark}\n`);
    this.#output = rest.join('');
    return output;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#shell.stdin.end();
    if (this.#shell.exitCode === null && this.#shell.signalCode === null) await new Promise((resolve) => this.#shell.once('exit', resolve));
  }
}
