import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Duplex } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { plainEnvironment, shell } from './execute';
import { program, type TestStore } from './store';
import { cleanUp } from './temporary';

/** A pseudo-terminal with a command as its foreground job, as in somebody's shell; 33 rows and 97 columns at the start. */
export class Terminal {
  readonly #player: ChildProcess;
  readonly #control: AsyncIterator<string>;
  #shown = '';

  /** The settings that the command found. */
  settingsBefore = '';
  /** The command's process. */
  pid = 0;
  /** Its exit code, 128+n where signal n ended it. */
  ended: Promise<number> = Promise.resolve(0);
  #device = '';

  private constructor(player: ChildProcess) {
    this.#player = player;
    player.stdout?.setEncoding('utf8').on('data', (text: string) => (this.#shown += text));
    this.#control = createInterface({ input: player.stdio[3] as Duplex })[Symbol.asyncIterator]();
  }

  /** Runs bin/loopbox on a terminal of its own, which hangs up when the test is over. */
  static async loopbox(store: TestStore, args: string[]): Promise<Terminal> {
    const player = spawn('python3', [join(import.meta.dirname, 'terminal.py'), '33', '97', program, ...args], {
      env: { ...plainEnvironment(), TERM: 'xterm', ...store.environment },
      stdio: ['pipe', 'pipe', 'inherit', 'pipe'],
    });
    const terminal = new Terminal(player);
    cleanUp(() => terminal.hangUp());
    terminal.#device = await terminal.#word();
    terminal.settingsBefore = await terminal.settings();
    (player.stdio[3] as Duplex).write('\n');
    terminal.pid = Number(await terminal.#word());
    terminal.ended = terminal.#word().then(Number);
    return terminal;
  }

  type(keys: string | Uint8Array): void {
    this.#player.stdin?.write(keys);
  }

  /**
   * Waits until the terminal shows something, and returns the match. What stands before it is not looked at again. What is typed is shown
   * as well, so that a pattern must not match the command that is to show it.
   */
  async shows(pattern: RegExp): Promise<RegExpExecArray> {
    const deadline = Date.now() + 20_000;
    for (;;) {
      const match = pattern.exec(this.#shown);
      if (match) {
        this.#shown = this.#shown.slice(match.index + match[0].length);
        return match;
      }
      if (Date.now() > deadline) throw new Error(`The terminal does not show ${pattern}, but ${JSON.stringify(this.#shown)}`);
      await sleep(5);
    }
  }

  /** Changes the size, of which the kernel tells the foreground job. */
  async resize(rows: number, columns: number): Promise<void> {
    await shell('stty', '-F', this.#device, 'rows', String(rows), 'columns', String(columns));
  }

  /** The settings, as `stty -g` has them. */
  settings(): Promise<string> {
    return shell('stty', '-F', this.#device, '-g');
  }

  /** As a connection that is lost. */
  async hangUp(): Promise<void> {
    this.#player.stdin?.end();
    if (this.#player.exitCode === null && this.#player.signalCode === null) await once(this.#player, 'exit');
  }

  async #word(): Promise<string> {
    return ((await this.#control.next()) as IteratorResult<string, string>).value;
  }
}
