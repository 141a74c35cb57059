import { createHash, randomBytes } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeAll, describe, expect, it } from 'vitest';
import { type ExecuteResult, execute, program, seededRandom, soakCount, type TestStore, temporaryDirectory } from '../fixtures';
import { storeAtRest } from '../sleeper';

const verbs = ['run', 'exec'] as const;
type Verb = (typeof verbs)[number];

let store: TestStore;
let expectAtRest: () => Promise<void>;

beforeAll(async () => {
  ({ store, expectAtRest } = await storeAtRest());
});

afterEach(() => expectAtRest());

let names = 0;

/** The arguments that run a command: as the first process of a container of its own, or as another one of `box`. */
function inContainer(verb: Verb, flags: string[], command: string[]): string[] {
  if (verb === 'exec') return ['exec', ...flags, 'box', ...command];
  return ['run', ...flags, '--rm', '--template', 'busybox', `c${++names}`, '--', ...command];
}

/** The same, quoted for a shell. */
function line(verb: Verb, flags: string[], command: string[]): string {
  return ['loopbox', ...inContainer(verb, flags, command)].map((word) => `'${word}'`).join(' ');
}

/** Runs a script with `loopbox` on its PATH. */
async function bash(script: string): Promise<ExecuteResult> {
  const env = { ...store.environment, PATH: `${join(program, '..')}:${process.env.PATH}:/usr/sbin:/sbin` };
  return execute('bash', ['-c', script], { env, timeoutMs: 120_000 });
}

/** Runs a command and answers its output: each text that it prints is followed by the signal that is given for it. */
async function withSignals(args: string[], signals: [after: string, signal: NodeJS.Signals][]): Promise<ExecuteResult> {
  const left = [...signals];
  let output = '';
  return store.loopbox(args, {
    onStart: (child) =>
      child.stdout?.on('data', (chunk: Buffer) => {
        output += chunk.toString();
        const [next] = left;
        if (next && output.includes(next[0])) child.kill(left.shift()?.[1]);
      }),
  });
}

describe.each(verbs)('the streams of %s', (verb) => {
  it('pass 100 MB of binary unchanged, from input to output, their end included', async () => {
    const blob = randomBytes(100_000_000);
    const path = join(await temporaryDirectory(), 'blob');
    await writeFile(path, blob);
    const { stdout, stderr } = await bash(`${line(verb, ['-i'], ['cat'])} <${path} | sha256sum; echo $\{PIPESTATUS[0]}`);
    expect([stdout, stderr]).toEqual([`${createHash('sha256').update(blob).digest('hex')}  -\n0\n`, '']);
  });

  it('keep output and errors apart', async () => {
    const result = await store.loopbox(inContainer(verb, [], ['sh', '-c', 'echo out; echo err >&2']));
    expect(result).toMatchObject({ code: 0, stdout: 'out\n', stderr: 'err\n' });
  });

  it('without -i have an empty input, and leave the own one to others', async () => {
    const { stdout } = await bash(`printf 'for others' | { ${line(verb, [], ['cat'])}; echo $?; cat; }`);
    expect(stdout).toBe('0\nfor others');
  });

  it('end with a command that does not read its input', async () => {
    const { stdout, stderr } = await bash(`yes | ${line(verb, ['-i'], ['true'])}; echo $\{PIPESTATUS[1]}`);
    expect([stdout, stderr]).toEqual(['0\n', '']);
  });

  it('end quietly, and the command with them, where the reader of the output has seen enough', async () => {
    const { stdout, stderr } = await bash(`${line(verb, [], ['yes'])} | head -c 4; echo $\{PIPESTATUS[0]}`);
    expect([stdout, stderr]).toEqual(['y\ny\n141\n', '']);
  });

  it('lose nothing where the reader takes its time', async () => {
    const writer = line(verb, [], ['seq', '1', '300000']);
    const { stdout } = await bash(`${writer} | { loopbox info >/dev/null; loopbox info >/dev/null; cksum; }; seq 1 300000 | cksum`);
    const [actual, expected] = stdout.split('\n');
    expect(actual).toBe(expected);
  });

  it('may be closed from the start', async () => {
    const { code, stderr } = await bash(`${line(verb, ['-i'], ['sh', '-c', 'cat; echo err >&2'])} <&- >&-`);
    expect([code, stderr]).toEqual([0, 'err\n']);
  });
});

describe.each(verbs)('a signal to %s', (verb) => {
  it.each([
    ['SIGTERM', 143],
    ['SIGINT', 130],
    ['SIGHUP', 129],
    ['SIGUSR1', 138],
  ] as const)('%s ends a command that does not handle it: %i', async (signal, code) => {
    const args = inContainer(verb, [], ['tail', '-f', '/etc/os-release']);
    expect(await withSignals(args, [['ID=busybox', signal]])).toMatchObject({ code, stderr: '' });
  });

  it('is handled by the command, which goes on or ends with a code of its own', async () => {
    const script = `
      trap 'n=$((n + 1)); echo int-$n; [ $n -lt 2 ] || exit 42' INT
      trap 'echo term' TERM
      echo ready; while :; do sleep 0.02; done`;
    const result = await withSignals(inContainer(verb, [], ['sh', '-c', script]), [
      ['ready', 'SIGTERM'],
      ['term', 'SIGINT'],
      ['int-1', 'SIGINT'],
    ]);
    expect(result).toMatchObject({ code: 42, stdout: 'ready\nterm\nint-1\nint-2\n', stderr: '' });
  });
});

describe('run', () => {
  it('keeps the container and how it ended', async () => {
    expect(await store.loopbox(['run', '--template', 'busybox', 'kept', '--', 'sh', '-c', 'exit 3'])).toMatchObject({ code: 3 });
    expect(await store.inspect('kept')).toMatchObject({ state: 'failed', exitCode: 3 });
    await store.done('rm', 'kept');
  });

  it('with --rm removes it, however it ends', async () => {
    await store.done('run', '--rm', '--template', 'busybox', 'gone', '--', 'true');
    expect((await store.loopbox(['run', '--rm', '--template', 'busybox', 'gone', '--', 'sh', '-c', 'exit 9'])).code).toBe(9);
    const stopped = withSignals(['run', '--rm', '--template', 'busybox', 'gone', '--', 'sh', '-c', 'echo ready; exec sleep 1000'], []);
    await expect.poll(async () => (await store.loopbox(['logs', 'gone'])).stdout).toBe('ready\n');
    await store.done('stop', '-t', '0', 'gone');
    expect((await stopped).code).toBe(137);
    await expect.poll(() => store.done('ls', '-q')).toBe('box');
  });

  it.each(['stop', 'kill'])('-d with --rm removes it after %s', async (verb) => {
    await store.done('run', '-d', '--rm', '--template', 'busybox', 'gone', '--', 'sleep', '1000');
    await store.done(verb, ...(verb === 'stop' ? ['-t', '0'] : []), 'gone');
    await expect.poll(() => store.done('ls', '-q')).toBe('box');
  });

  it.each([
    [127, ['run', '--rm', '--template', 'busybox', 'none', '--', 'no-such-command'], 'COMMAND_NOT_FOUND'],
    [126, ['run', '--rm', '--template', 'busybox', 'none', '--', '/etc/passwd'], 'NOT_EXECUTABLE'],
    [125, ['run', '--rm', '--template', 'none', 'none', '--', 'true'], 'NOT_FOUND'],
    [125, ['run', '--rm', '--runtime', 'false', '--template', 'busybox', 'none', '--', 'true'], 'FAILED'],
    [125, ['run', '--rm', '--template', 'busybox', 'box', '--', 'true'], 'EXISTS'],
    [2, ['run', '--rm', 'none', '--', 'true'], 'USAGE'],
    [127, ['exec', 'box', 'no-such-command'], 'COMMAND_NOT_FOUND'],
    [126, ['exec', 'box', '/etc'], 'NOT_EXECUTABLE'],
    [125, ['exec', 'none', 'true'], 'NOT_FOUND'],
    [2, ['exec', 'box'], 'USAGE'],
  ])('%i for what can not be run: %j', async (code, args, error) => {
    const result = await store.loopbox(['--format', 'json', ...args]);
    expect([result.code, result.stdout]).toEqual([code, '']);
    expect(JSON.parse(result.stderr)).toMatchObject({ error: { code: `ERR_LOOPBOX_${error}` } });
    expect(await store.done('ls', '-q')).toBe('box');
  });
});

describe('exec in a container that is being stopped', () => {
  it('ends with its own code, with that of the kill, or says that it does not run', async () => {
    const random = seededRandom();
    await store.done('create', '--template', 'busybox', 'ending', '--', 'sleep', '1000');
    for (let round = 0; round < soakCount(30); round++) {
      await store.done('start', 'ending');
      const later = async (...args: string[]) => {
        await sleep(random.below(120));
        return store.loopbox(args, { timeoutMs: 60_000 });
      };
      const execs = Array.from({ length: 4 }, () => later('exec', 'ending', 'sleep', '0.1'));
      await later('stop', '-t', '0', 'ending');
      for (const { code, stderr } of await Promise.all(execs)) {
        expect([0, 125, 137]).toContain(code);
        if (code === 125) expect(stderr).toContain('Cannot exec in "ending": it is not running');
      }
    }
    await store.done('rm', 'ending');
  });
});

describe('wait', () => {
  it.each([
    ['exit 0', 0],
    ['exit 3', 3],
    ['trap "exit 5" TERM; kill -TERM $$', 5],
    ['exit 143', 143],
  ])('prints how "%s" ends', async (script, code) => {
    await store.done('run', '-d', '--template', 'busybox', 'waited', '--', 'sh', '-c', script);
    expect(await store.done('wait', 'waited')).toBe(String(code));
    expect(await store.done('wait', 'waited')).toBe(String(code));
    await store.done('rm', 'waited');
  });

  it('prints 137 for one that is killed, also where it is removed at once', async () => {
    await store.done('run', '-d', '--rm', '--template', 'busybox', 'waited', '--', 'sleep', '1000');
    const waiting = store.done('wait', 'waited');
    await store.done('kill', 'waited');
    expect(await waiting).toBe('137');
    await expect.poll(() => store.done('ls', '-q')).toBe('box');
  });
});

describe('logs', () => {
  /** Runs a script to its end in a container `logged`. */
  async function logged(script: string): Promise<void> {
    await store.done('run', '-d', '--template', 'busybox', 'logged', '--', 'sh', '-c', script);
    await store.done('wait', 'logged');
  }

  it('hold both streams apart, bytes that are no text, and a last line without end', async () => {
    await logged('printf "one\\ntw"; echo err >&2; printf "o\\n\\377\\000\\r\\n\\nend"');
    const { output, stderr } = await store.loopbox(['logs', 'logged']);
    expect([output.toString('latin1'), stderr]).toEqual(['one\ntwo\n\xff\0\r\n\nend', 'err\n']);
    await store.done('rm', 'logged');
  });

  it('-n shows the last lines', async () => {
    await logged('seq 1 1000');
    const last = async (count: number) => (await store.loopbox(['logs', '-n', String(count), 'logged'])).stdout;
    expect([await last(0), await last(2), (await last(2000)).split('\n').length]).toEqual(['', '999\n1000\n', 1001]);
    expect((await store.loopbox(['logs', '-n', 'x', 'logged'])).code).toBe(2);
    await store.done('rm', 'logged');
  });

  it('-f follows to the end: what was written before, what comes, the last words', async () => {
    const script = 'echo before; while [ ! -e /go ]; do sleep 0.02; done; printf "last words"';
    await store.done('run', '-d', '--template', 'busybox', 'logged', '--', 'sh', '-c', script);
    let asked = false;
    const result = await store.loopbox(['logs', '-f', 'logged'], {
      onStart: (child) =>
        child.stdout?.on('data', () => {
          // It may end with the container.
          if (!asked) void store.loopbox(['exec', 'logged', 'touch', '/go']);
          asked = true;
        }),
    });
    expect(result).toMatchObject({ code: 0, stdout: 'before\nlast words', stderr: '' });
    await store.done('rm', 'logged');
  });

  it('-f goes on where the log is started anew at 10 MiB', async () => {
    // With time stamps about 25 MiB, at a pace that is worth following.
    const script =
      'for i in $(seq 0 24); do seq $((i * 20000)) $((i * 20000 + 19999)); while [ $i -ge "$(cat /read)" ]; do sleep 0.01; done; done';
    await store.done('create', '--template', 'busybox', 'logged', '--', 'sh', '-c', `echo 1 >/read; ${script}`);
    await store.done('start', 'logged');
    const { stdout, code } = await store.loopbox(['logs', '-f', 'logged'], {
      onStart: (child) => {
        let lines = 0;
        let allowed = 1;
        child.stdout?.on('data', (chunk: Buffer) => {
          lines += chunk.toString('latin1').split('\n').length - 1;
          if (lines < (allowed - 1) * 20_000) return;
          allowed += 5;
          void store.loopbox(['exec', 'logged', 'sh', '-c', `echo ${allowed} >/read.new; mv /read.new /read`]);
        });
      },
    });
    expect(code).toBe(0);
    const gap = stdout.split('\n').findIndex((text, index) => text !== String(index));
    expect(gap).toBe(500_000);
    const left = (await store.done('logs', 'logged')).split('\n');
    expect(left.at(-1)).toBe('499999');
    expect(left.length).toBeLessThan(500_000);
    await store.done('rm', 'logged');
  });
});
