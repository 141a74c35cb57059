import type { Command } from 'commander';
import { requireRoot, Store } from '../container/store';
import type { ProgressEvent, WorkOptions } from '../progress';
import { type GlobalOptions, globalOptions } from './global-options';
import { ProgressPrinter } from './progress-printer';

const signalNumbers = { SIGHUP: 1, SIGINT: 2, SIGTERM: 15 } as const;
type StopSignal = keyof typeof signalNumbers;

/** Why long work was stopped: a signal, which decides the exit code. */
export class Cancelled extends Error {
  constructor(readonly signal: StopSignal) {
    super(`Cancelled by ${signal}`);
  }

  get exitCode(): number {
    return 128 + signalNumbers[this.signal];
  }
}

/** What every verb gets beside its own flags: the store, the global flags, one AbortSignal for Ctrl-C, and where to print. */
export class Context {
  /** CMD: what followed `--`. */
  readonly command: string[] | undefined;
  global: GlobalOptions = {};
  exitCode = 0;
  /** Whether the exit code is a command's own, so that our failures end with 125. */
  runsCommand = false;
  #store: Store | undefined;
  #printer: ProgressPrinter | undefined;
  readonly #abort = new AbortController();
  #onSignal: (signal: StopSignal) => void = (signal) => this.#abort.abort(new Cancelled(signal));
  readonly #listener = (signal: NodeJS.Signals) => this.#onSignal(signal as StopSignal);

  constructor(command: string[] | undefined) {
    this.command = command;
    for (const signal of Object.keys(signalNumbers)) process.on(signal, this.#listener);
    // A reader that has seen enough (head, a pager) is no failure.
    process.stdout.on('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'EPIPE') process.exit(0);
      throw error;
    });
  }

  /** Takes the global flags of the command that is called. Done before its action. */
  adopt(command: Command): void {
    this.global = globalOptions(command);
  }

  get store(): Store {
    requireRoot();
    this.#store ??= new Store(this.global);
    return this.#store;
  }

  get signal(): AbortSignal {
    return this.#abort.signal;
  }

  get work(): Required<WorkOptions> {
    this.#printer ??= new ProgressPrinter(this.global.progress ?? 'auto');
    const printer = this.#printer;
    return { signal: this.signal, onProgress: (event: ProgressEvent) => printer.show(event) };
  }

  get format(): 'table' | 'json' {
    return this.global.format ?? 'table';
  }

  /** From here on SIGINT, SIGTERM and SIGHUP are passed on instead of ending our work. */
  forwardSignals(onSignal: (signal: StopSignal) => void): void {
    this.#onSignal = onSignal;
  }

  print(text: string): void {
    this.#printer?.clear();
    process.stdout.write(`${text}\n`);
  }

  printJson(value: unknown): void {
    this.print(JSON.stringify(value, null, 2));
  }

  readonly warn = (message: string): void => {
    this.#printer?.clear();
    process.stderr.write(`warning: ${message}\n`);
  };

  close(): void {
    this.#printer?.clear();
    for (const signal of Object.keys(signalNumbers)) process.off(signal, this.#listener);
  }
}
