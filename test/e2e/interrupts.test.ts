import { existsSync, readdirSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { beforeAll, describe, expect, it } from 'vitest';
import { type SeededRandom, seededRandom, soakCount } from '../counts';
import { busyboxTar, execute, lockIsFree, program, shell, TestStore, temporaryDirectory } from '../fixtures';
import { heldByKernel, keptOnHost } from '../remains';

const minute = 60_000;
let store: TestStore;
let directory: string;

/** A verb that takes its time. */
interface Verb {
  args: string[];
  /** The file that it makes; it must be there whole or not at all. */
  file?: string;
  undo?: string[];
}

let verbs: Record<string, Verb>;

beforeAll(async () => {
  store = await TestStore.create();
  directory = await temporaryDirectory();
  const tar = join(directory, 'large.tar');
  const exported = join(directory, 'exported.img');
  await shell(
    'sh',
    '-c',
    `cp ${await busyboxTar()} ${tar}; cd ${directory}; head -c 40000000 /dev/urandom > noise; tar -rf ${tar} noise; gzip -1 < ${tar} > ${tar}.gz`,
  );
  await store.done('template', 'import', '--size', '128M', 't', tar);
  await store.done('create', 'base', '--full', '--template', 't', '--', 'sleep', '1000');
  await store.done('export', 'base', exported);
  const [container, template] = [store.imageOf('new'), join(store.root, 'templates/new.img')];
  verbs = {
    'template import of a tar': {
      args: ['template', 'import', '--size', '128M', 'new', tar],
      file: template,
      undo: ['template', 'rm', 'new'],
    },
    'template import of a tar.gz': {
      args: ['template', 'import', '--size', '128M', 'new', `${tar}.gz`],
      file: template,
      undo: ['template', 'rm', 'new'],
    },
    'template import of an image': { args: ['template', 'import', 'new', exported], file: template, undo: ['template', 'rm', 'new'] },
    'template create': { args: ['template', 'create', 'new', '--from', 'base'], file: template, undo: ['template', 'rm', 'new'] },
    create: { args: ['create', 'new', '--full', '--template', 't', '--size', '1G'], file: container, undo: ['rm', 'new'] },
    'create of a larger, linked one': {
      args: ['create', 'new', '--linked', '--template', 't', '--size', '1G'],
      file: join(store.root, 'containers/new.delta'),
      undo: ['rm', 'new'],
    },
    import: { args: ['import', exported, 'new'], file: container, undo: ['rm', 'new'] },
    'export to a file': { args: ['export', 'base', join(directory, 'new.img')], file: join(directory, 'new.img') },
    'export over a file': { args: ['export', '--force', 'base', join(directory, 'old.img')] },
    'export to standard output': { args: ['export', 'base', '-'] },
    'run of a template': {
      args: ['run', '-d', '--template', 't', 'new', '--', 'sleep', '1000'],
      file: join(store.root, 'containers/new.delta'),
      undo: ['rm', '-f', 'new'],
    },
    'run --ephemeral of a FILE': { args: ['run', '--ephemeral', exported, '--', 'true'] },
    'run of a FILE': { args: ['run', '-d', exported, '--', 'sleep', '1000'], undo: ['stop', '-t', '0', exported] },
    start: { args: ['start', 'base'], undo: ['stop', '-t', '0', 'base'] },
  };
  // What `export over a file` replaces is a whole image at any time.
  await shell('cp', '--sparse=always', exported, join(directory, 'old.img'));
});

const names = [
  'template import of a tar',
  'template import of a tar.gz',
  'template import of an image',
  'template create',
  'create',
  'create of a larger, linked one',
  'import',
  'export to a file',
  'export over a file',
  'export to standard output',
  'run of a template',
  'run --ephemeral of a FILE',
  'run of a FILE',
  'start',
];

/** Files where a verb could leave something half-made. */
function files(): string[] {
  return [join(store.root, 'containers'), join(store.root, 'templates'), directory].flatMap((path) =>
    // What a killed replacement leaves has no name to anybody, and goes with the next one there.
    readdirSync(path)
      .filter((name) => !name.startsWith('.tmp-'))
      .map((name) => join(path, name)),
  );
}

/** Runs the verb to its end or, after `delayMs`, to the signal's; SIGINT goes to the whole process group, as from a terminal. */
async function runUntil(verb: Verb, signal?: NodeJS.Signals, delayMs = 0): Promise<{ code: number; stderr: string; tookMs: number }> {
  const begun = performance.now();
  const abort = new AbortController();
  const result = await execute('setsid', ['sh', '-c', 'exec "$@" > /dev/null', 'sh', program, ...verb.args], {
    env: store.environment,
    onStart: ({ pid }) => {
      if (!signal || pid === undefined) return;
      void sleep(delayMs, undefined, { signal: abort.signal })
        .then(() => process.kill(signal === 'SIGINT' ? -pid : pid, signal))
        .catch(() => {});
    },
  });
  abort.abort();
  return { ...result, tookMs: performance.now() - begun };
}

/** Nothing runs, is attached or half-made; a whole result is checked and taken away again. Tells whether there was one. */
async function settle(verb: Verb, before: string[]): Promise<boolean> {
  const containers = JSON.parse(await store.done('ls', '--format', 'json')) as { state: string }[];
  const running = containers.some(({ state }) => state === 'running');
  const made = running || (verb.file !== undefined && existsSync(verb.file));
  if (verb.file && existsSync(verb.file) && !running) {
    if (verb.file.endsWith('.delta')) await store.done('check', 'new');
    else await shell('e2fsck', '-fn', verb.file);
  }
  if (made && verb.undo) await store.done(...verb.undo);
  else if (made && verb.file) await rm(verb.file);
  await expect.poll(() => heldByKernel(store)).toEqual([]);
  // What has no owner in the kernel goes with the next command.
  if (keptOnHost(store).length > 0) await store.done('ls');
  await expect.poll(() => keptOnHost(store)).toEqual([]);
  expect(files()).toEqual(before);
  return made;
}

/** How long the verb takes when it is left alone; it is undone again. */
async function duration(verb: Verb): Promise<number> {
  const before = files();
  const { code, stderr, tookMs } = await runUntil(verb);
  expect([code, stderr]).toEqual([0, '']);
  await settle(verb, before);
  return tookMs;
}

const durations = new Map<Verb, number>();

async function interruptInRounds(verb: Verb, signals: ('SIGINT' | 'SIGTERM' | 'SIGKILL')[], random: SeededRandom): Promise<void> {
  const wholeMs = durations.get(verb) ?? (await duration(verb));
  const before = files();
  for (let round = 0; round < soakCount(40); round++) {
    const signal = signals[round % signals.length] ?? 'SIGKILL';
    const delayMs = random.below(Math.ceil(Math.min(wholeMs, 1500)));
    const { code, stderr } = await runUntil(verb, signal, delayMs);
    const made = await settle(verb, before);
    const stopped = { SIGINT: 130, SIGTERM: 143, SIGKILL: 137 }[signal];
    expect([signal, delayMs, code, stderr]).toEqual([
      signal,
      delayMs,
      code && stopped,
      code ? expect.stringMatching(/^(Cancelled by SIG(INT|TERM)\n)?$/) : '',
    ]);
    // What is not called cancelled may have been killed between the deed and the word.
    if (code === 0 && verb.file) expect([signal, delayMs, made]).toEqual([signal, delayMs, true]);
    if (stderr !== '') expect([signal, delayMs, made]).toEqual([signal, delayMs, false]);
  }
  // The next command works, and the delays of what is to come fit to it.
  durations.set(verb, await duration(verb));
}

describe('Ctrl-C and SIGTERM at any moment end with 130 and 143 and leave nothing half-made:', () => {
  it.each(names)(
    '%s',
    async (name) => {
      await interruptInRounds(verbs[name] as Verb, ['SIGINT', 'SIGTERM'], seededRandom());
    },
    10 * minute,
  );
});

describe('kill -9 at any moment leaves nothing that anybody sees, and the next commands work:', () => {
  it.each(names.filter((name) => !name.includes('an image') && !name.includes('tar.gz') && !name.startsWith('run of')))(
    '%s',
    async (name) => {
      await interruptInRounds(verbs[name] as Verb, ['SIGKILL'], seededRandom());
      await expect.poll(() => lockIsFree(store.imageOf('base'))).toBe(true);
    },
    10 * minute,
  );
});

describe('a verb that reads standard input', () => {
  it('ends at once with Ctrl-C while nothing comes', async () => {
    for (const signal of ['SIGINT', 'SIGTERM'] as const) {
      const before = files();
      const result = await execute(
        'sh',
        ['-c', `(head -c 100000 ${join(directory, 'large.tar')}; exec sleep 1000) | exec ${program} template import --size 128M new -`],
        {
          env: store.environment,
          onStart: ({ pid }) => void cancelWhenWaiting(pid as number, signal),
          timeoutMs: 60_000,
        },
      );
      expect(result.code).toBe(signal === 'SIGINT' ? 130 : 143);
      expect(files()).toEqual(before);
      await expect.poll(() => heldByKernel(store)).toEqual([]);
    }
  });

  /** Once it has attached the image that it fills; then ends what it waits for, which would hold the pipe. */
  async function cancelWhenWaiting(pid: number, signal: NodeJS.Signals): Promise<void> {
    await expect.poll(() => heldByKernel(store).length).toBeGreaterThan(0);
    // The shell's own arguments have all the words, too, until what it has forked executes a program.
    const childWith = async (words: RegExp) => {
      const children = (await shell('ps', '--ppid', String(pid), '-o', 'pid=,args=')).split('\n');
      return Number(/^ *\d+/.exec(children.find((line) => words.test(line)) ?? '')?.[0] ?? 0);
    };
    const sleeper = /^ *\d+ sleep 1000$/;
    await expect.poll(() => childWith(sleeper)).toBeGreaterThan(0);
    const [verb, rest] = [await childWith(/bin\/loopbox template import/), await childWith(sleeper)];
    process.kill(verb || pid, signal);
    await expect.poll(() => heldByKernel(store)).toEqual([]);
    process.kill(rest, 'SIGKILL');
  }
});
