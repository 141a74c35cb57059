import type { Command } from 'commander';
import { requireRoot, Store } from '../container/store';
import { printable, printableJson } from '../printable';
import type { ProgressEvent, WorkOptions } from '../progress';
import { type GlobalOptions, globalOptions } from './global-options';
import { ProgressPrinter } from './progress-printer';
import { standardError } from './standard-error';

const signalNumbers = { SIGHUP: 1, SIGINT: 2, SIGTERM: 15 } as const;
type StopSignal = keyof typeof signalNumbers;
const commandSignals = ['SIGQUIT', 'SIGUSR1', 'SIGUSR2'] as const;

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
  /** Whether standard output gets data as it goes, which is cut short where its reader goes away: a failure. A table's reader may have seen enough. */
  streamsData = false;
  #runsCommand = false;
  #store: Store | undefined;
  #printer: ProgressPrinter | undefined;
  readonly #abort = new AbortController();
  /** Signals for a command that has not begun. */
  readonly #held: NodeJS.Signals[] = [];
  #onSignal = (signal: NodeJS.Signals): void => {
    if (signal in signalNumbers) this.#abort.abort(new Cancelled(signal as StopSignal));
    else this.#held.push(signal);
  };
  readonly #listener = (signal: NodeJS.Signals) => this.#onSignal(signal);

  constructor(command: string[] | undefined) {
    this.command = command;
    for (const signal of Object.keys(signalNumbers)) process.on(signal, this.#listener);
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

  /** Whether the exit code is a command's own, so that our failures end with 125. */
  get runsCommand(): boolean {
    return this.#runsCommand;
  }

  /** From here on the exit code is a command's own, and so are the signals that don't ask for an end: they are held until it has begun. */
  expectCommand(): void {
    this.#runsCommand = true;
    for (const signal of commandSignals) process.on(signal, this.#listener);
  }

  /** From here on signals are passed on to the command instead of ending our work. */
  forwardSignals(onSignal: (signal: NodeJS.Signals) => void): void {
    this.#onSignal = onSignal;
    // One that came when there was no more to cancel was meant for the command, too.
    const reason: unknown = this.signal.reason;
    if (reason instanceof Cancelled) this.#held.unshift(reason.signal);
    for (const signal of this.#held) onSignal(signal);
  }

  /** Takes the line of the progress away before something else is printed. */
  clearProgress(): void {
    this.#printer?.clear();
  }

  /** Prints lines of text, in which a terminal finds nothing to obey. */
  print(...lines: string[]): void {
    this.#write(lines.map(printable).join('\n'));
  }

  /** Prints lines that may be coloured: what in them comes from files must be printable already. */
  printPicture(lines: string[]): void {
    this.#write(lines.join('\n'));
  }

  /** Prints a value over several lines, or in one with an `indent` of 0. */
  printJson(value: unknown, indent = 2): void {
    this.#write(printableJson(JSON.stringify(value, null, indent)));
  }

  #write(text: string): void {
    this.clearProgress();
    process.stdout.write(`${text}\n`);
  }

  readonly warn = (message: string): void => {
    this.clearProgress();
    standardError().write(`warning: ${printable(message)}\n`);
  };

  /** The work is over: a signal from here on does not make it one that was cancelled, unless its result is still on its way. */
  close(): void {
    this.clearProgress();
    this.#onSignal = (signal) => {
      if (signal in signalNumbers) process.exit(process.stdout.writableLength > 0 ? 128 + signalNumbers[signal as StopSignal] : undefined);
    };
  }
}
