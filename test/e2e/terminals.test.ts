import { afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { TestStore } from '../fixtures';
import { sleep, storeAtRest } from '../sleeper';
import { Terminal } from '../terminal';
import { findVictims, kill } from '../victims';

const ctrlC = '\x03';
const ctrlD = '\x04';
const ctrlZ = '\x1a';
/** Of busybox's shell, which then asks the terminal where the cursor is. */
const prompt = / # (.\[6n)?$/;

let store: TestStore;
let expectAtRest: () => Promise<void>;

beforeAll(async () => {
  ({ store, expectAtRest } = await storeAtRest());
});

afterEach(() => expectAtRest());

let names = 0;

/** A command on a terminal: as the first process of a container of its own, or as another one of `box`. */
function open(verb: 'run' | 'exec', flags: string, command: string[]): Promise<Terminal> {
  if (verb === 'exec') return Terminal.loopbox(store, ['exec', flags, 'box', ...command]);
  return Terminal.loopbox(store, ['run', flags, '--rm', '--template', 'busybox', `t${++names}`, '--', ...command]);
}

async function expectEnd(terminal: Terminal, code: number): Promise<void> {
  expect(await terminal.ended).toBe(code);
  expect(await terminal.settings()).toBe(terminal.settingsBefore);
}

describe.each(['run', 'exec'] as const)('%s -it', (verb) => {
  it('gives the command a terminal of the size and type of its own', async () => {
    const script = 'test -t 0 && test -t 1 && test -t 2 && echo "$(tty) $(stty size) $TERM"';
    const terminal = await open(verb, '-it', ['sh', '-c', script]);
    await terminal.shows(/\/dev\/pts\/\d+ 33 97 xterm\r\n/);
    await expectEnd(terminal, 0);
  });

  it('hands on each new size, and Ctrl-C to the command inside', async () => {
    const script = 'trap "stty size" WINCH; trap "exit 4" INT; echo ready; while :; do sleep 0.02; done';
    const terminal = await open(verb, '-it', ['sh', '-c', script]);
    await terminal.shows(/ready/);
    await terminal.resize(20, 60);
    await terminal.shows(/20 60\r\n/);
    // As a window that is dragged: many at once, of which the last counts.
    await Promise.all(Array.from({ length: 20 }, (_, index) => terminal.resize(20 + index, 60 + index)));
    await terminal.resize(55, 133);
    await terminal.shows(/55 133\r\n/);
    terminal.type(ctrlC);
    await expectEnd(terminal, 4);
  });

  it('gives a shell with prompt and job control: Ctrl-C, Ctrl-Z, fg', async () => {
    const terminal = await open(verb, '-it', ['sh']);
    const shown = await terminal.shows(prompt);
    expect(shown.input).not.toContain('job control');
    terminal.type("sh -c 'echo run''ning; exec sleep 1000'\n");
    await terminal.shows(/running/);
    terminal.type(ctrlC);
    await terminal.shows(prompt);
    terminal.type('echo code-$?\n');
    await terminal.shows(/code-130/);
    terminal.type('sh -c \'trap "echo going""-on" CONT; echo run""ning; while :; do sleep 0.02; done\'\n');
    await terminal.shows(/running/);
    terminal.type(ctrlZ);
    await terminal.shows(/Stopped[^]* # (.\[6n)?$/);
    terminal.type('fg\n');
    await terminal.shows(/going-on/);
    terminal.type(ctrlC);
    await terminal.shows(prompt);
    terminal.type('exit 3\n');
    await expectEnd(terminal, 3);
  });

  it('ends a shell at Ctrl-D', async () => {
    const terminal = await open(verb, '-it', ['sh']);
    await terminal.shows(prompt);
    terminal.type(ctrlD);
    await expectEnd(terminal, 0);
  });

  it.each([0, 3, 130, 137, 255])("hands on the command's exit code %i", async (code) => {
    await expectEnd(await open(verb, '-it', ['sh', '-c', `exit ${code}`]), code);
  });

  it('passes colours and UTF-8 unchanged, both ways', async () => {
    const terminal = await open(verb, '-it', ['sh', '-c', 'printf "\\033[1;31mrot\\033[0m für 😀\\n"; read line; echo "got: $line"']);
    const [text] = await terminal.shows(/[^\n]*😀\r\n/);
    expect(text.split('\x1b[K').at(-1)).toBe('\x1b[1;31mrot\x1b[0m für 😀\r\n');
    terminal.type('zwölf €\n');
    await terminal.shows(/got: zwölf €\r\n/);
    await expectEnd(terminal, 0);
  });

  it('passes every byte that is typed to a command that wants it raw', async () => {
    const bytes = Uint8Array.from({ length: 256 }, (_, byte) => byte);
    const terminal = await open(verb, '-it', ['sh', '-c', 'stty raw -echo; echo ready; head -c 256 | md5sum']);
    await terminal.shows(/ready/);
    terminal.type(bytes);
    await terminal.shows(/e2c865db4162bed963bfaa9ef6ac18f0/);
    await expectEnd(terminal, 0);
  });

  it('with -t alone passes keys all the same: a terminal without could not be interrupted', async () => {
    const terminal = await open(verb, '-t', ['sh', '-c', 'trap "exit 4" INT; echo ready; while :; do sleep 0.02; done']);
    await terminal.shows(/ready/);
    terminal.type(ctrlC);
    await expectEnd(terminal, 4);
  });

  it('passes SIGTERM on, and leaves the terminal as it was', async () => {
    const terminal = await open(verb, '-it', ['sh', '-c', 'echo ready; exec sleep 1000']);
    await terminal.shows(/ready/);
    process.kill(terminal.pid, 'SIGTERM');
    await expectEnd(terminal, 143);
  });

  it('ends with the terminal: a hang-up reaches the command', async () => {
    const terminal = await open(verb, '-it', ['sh']);
    await terminal.shows(prompt);
    await terminal.hangUp();
    await expectAtRest();
    expect(await store.done('ls', '-q')).toBe('box');
  });

  it('is refused without a terminal, before anything is made', async () => {
    const args = verb === 'run' ? ['run', '-it', '--template', 'busybox', 'none', '--', 'true'] : ['exec', '-it', 'box', 'true'];
    const { code, stderr } = await store.loopbox(args);
    expect([code, stderr]).toEqual([2, 'loopbox: Cannot use -t: standard input is not a terminal\nhint: use -i alone\n']);
    expect(await store.done('ls', '-q')).toBe('box');
  });
});

describe.each(['run', 'exec'] as const)('the terminal of %s -it is as it was', (verb) => {
  /** A terminal on a command in a container of its own. */
  async function openVictim(): Promise<{ terminal: Terminal; name: string }> {
    const name = `victim${++names}`;
    const command = ['sh', '-c', 'echo ready; exec sleep 1000'];
    if (verb === 'exec') await store.runBusybox(name, ...sleep);
    const args = verb === 'exec' ? ['exec', '-it', name] : ['run', '-it', '--rm', '--template', 'busybox', name, '--'];
    const terminal = await Terminal.loopbox(store, [...args, ...command]);
    await terminal.shows(/ready/);
    return { terminal, name };
  }

  it('after the container was stopped', async () => {
    const { terminal, name } = await openVictim();
    await store.done('stop', '-t', '0', name);
    await expectEnd(terminal, 137);
    await store.loopbox(['rm', '-f', name]);
  });

  it("after the container's first process was killed", async () => {
    const { terminal, name } = await openVictim();
    const { pid } = await store.inspect(name);
    await kill(Number(pid));
    await expectEnd(terminal, 137);
    await store.loopbox(['rm', '-f', name]);
  });
});

describe('run -it', () => {
  it('that is killed itself gives the terminal back; the container goes on', async () => {
    const terminal = await Terminal.loopbox(store, [
      'run',
      '-it',
      '--template',
      'busybox',
      'orphan',
      '--',
      'sh',
      '-c',
      'echo ready; exec sleep 1000',
    ]);
    await terminal.shows(/ready/);
    // A container may say so before its start is over, which ends with its starter until then.
    await expect.poll(() => findVictims(store, 'guardian')).toEqual([]);
    process.kill(terminal.pid, 'SIGKILL');
    expect(await terminal.ended).toBe(137);
    await expect.poll(() => terminal.settings()).toBe(terminal.settingsBefore);
    expect(await store.inspect('orphan')).toMatchObject({ state: 'running' });
    await store.done('rm', '-f', 'orphan');
  });
});

describe('without -t', () => {
  it.each(['run', 'exec'] as const)('Ctrl-C ends what %s runs', async (verb) => {
    const terminal = await open(verb, '-i', ['tail', '-f', '/etc/os-release']);
    await terminal.shows(/ID=busybox/);
    terminal.type(ctrlC);
    await expectEnd(terminal, 130);
  });
});

describe('enter', () => {
  it('opens a shell and ends with its code', async () => {
    const terminal = await Terminal.loopbox(store, ['enter', 'box']);
    await terminal.shows(prompt);
    terminal.type('hostname; tty; exit 7\n');
    // A shell that has looked at its terminal before the runtime was done with it makes two of the carriage return.
    await terminal.shows(/box\r+\n\/dev\/pts\/\d+\r+\n/);
    await expectEnd(terminal, 7);
  });

  it('without a terminal runs what it reads', async () => {
    const { code, stdout, stderr } = await store.loopbox(['enter', 'box'], { input: 'hostname\nexit 5\n' });
    expect([code, stdout, stderr]).toEqual([5, 'box\n', '']);
  });
});
