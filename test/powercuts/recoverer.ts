import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, rmSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface, type Interface } from 'node:readline';
import { plainEnvironment } from '../execute';
import { temporaryPrefix } from '../host-state';
import { cleanUp } from '../temporary';
import { type Entry, Recording } from './log';
import { type CutState, Replay, writeState } from './replay';

interface Recovered {
  /** In words. */
  steps: string[];
  /** What a second recover did. */
  again: string[];
  /** What both did to the files. */
  log: Entry[];
  /** As it was before, for the log. */
  replay: Replay;
}

/** A process that recovers containers and is recorded meanwhile; their files lie in memory. */
export class Recoverer {
  private constructor(
    private readonly child: ChildProcessWithoutNullStreams,
    private readonly answers: Interface,
    private readonly recording: Recording,
  ) {}

  /** Ends with the test. */
  static async start(): Promise<Recoverer> {
    const place = await mkdtemp(join('/dev/shm', temporaryPrefix));
    const recording = new Recording(join(place, 'containers'), join(place, 'log'));
    const child = spawn(process.execPath, [join(import.meta.dirname, 'recover-child.cjs')], {
      env: { ...plainEnvironment(), ...recording.environment },
      stdio: ['pipe', 'pipe', 'inherit'],
    }) as unknown as ChildProcessWithoutNullStreams;
    cleanUp(async () => {
      const ended = once(child, 'exit');
      if (child.kill('SIGKILL')) await ended;
      await rm(place, { recursive: true, force: true });
    });
    return new Recoverer(child, createInterface({ input: child.stdout }), recording);
  }

  /** Writes a state out and recovers it, twice. `names` are the containers'. It is all durable, or what a kill of `killed` has left. */
  async recover(state: CutState, names: string[], killed?: Replay): Promise<Recovered> {
    const { directory } = this.recording;
    rmSync(directory, { recursive: true, force: true });
    mkdirSync(directory);
    writeState(directory, state);
    const replay = killed ? killed.goOnIn(directory) : Replay.ofState(directory, state);
    const answered = once(this.answers, 'line') as Promise<[string]>;
    this.child.stdin.write(`${JSON.stringify([directory, ...names])}\n`);
    const answer = JSON.parse((await answered)[0]) as { error?: string; steps: string[]; again: string[] };
    if (answer.error) throw new Error(`recover fails: ${answer.error}`);
    return { ...answer, log: this.recording.take(), replay };
  }
}
