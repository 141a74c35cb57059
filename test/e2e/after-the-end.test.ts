import { type ChildProcess, execFileSync } from 'node:child_process';
import { copyFileSync, existsSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { Store } from '../../src/container/store';
import { namedTarget, resolveTarget, type Target } from '../../src/container/target';
import { tidy } from '../../src/container/tidy';
import { writeManifest } from '../../src/image/image-file';
import { openLayer } from '../../src/image/layer-file';
import type { RunRecord } from '../../src/runtime/run-directory';
import { execute, lockIsFree, plainEnvironment, program, shell, type TestStore, temporaryDirectory } from '../fixtures';
import { heldByKernel, keptOnHost } from '../remains';
import { sleep, storeWithSleeper } from '../sleeper';
import { kill } from '../victims';

/** Takes no notice of SIGTERM. */
const untilEnd = (code: number) => ['--', 'sh', '-c', `trap "" TERM; echo up; while [ ! -e /end ]; do sleep 0.01; done; exit ${code}`];
let store: TestStore;
/** A container's file that is not in the store. */
let file: string;

beforeAll(async () => {
  store = await storeWithSleeper('c');
  file = await exportedFile('c');
});

async function create(name: string, command = sleep): Promise<void> {
  await store.createBusybox(name, ...command);
}

async function exportedFile(name: string): Promise<string> {
  const path = join(await temporaryDirectory(), 'file.img');
  await store.done('export', name, path);
  return path;
}

function recordPath(id: string): string {
  return join(store.runRoot, store.component, id, 'run.json');
}

function recordOf(id: string): RunRecord {
  return JSON.parse(readFileSync(recordPath(id), 'utf8')) as RunRecord;
}

/** What the host has of runs of FILEs, or of one of them: run directories, logs and locks. */
function keptOfFiles(id = '_f-'): string[] {
  return [join(store.runRoot, store.component), join(store.runRoot, '.locks'), join('/var/log/loopbox', store.component)]
    .filter((directory) => existsSync(directory))
    .flatMap((directory) => readdirSync(directory))
    .filter((name) => name.startsWith(id));
}

/** Kills the container and its monitor: what is left has to be tidied up by the next command. */
async function killRun(id: string): Promise<void> {
  const { conmonPid, pid } = recordOf(id);
  for (const each of [conmonPid, pid]) await kill(each);
}

async function running(): Promise<{ id: string; name: string; pid: number }[]> {
  return (await store.json('ps')) as { id: string; name: string; pid: number }[];
}

async function names(): Promise<string[]> {
  return (await store.done('ls', '-q')).split('\n');
}

/** Ends a container that waits for it, and returns the exit code that `wait` tells. */
async function end(name: string): Promise<string> {
  // It may end with the container.
  await store.loopbox(['exec', name, 'touch', '/end']);
  return store.done('wait', name);
}

/** Sends a command a signal once it has made a file. */
async function signalAfter(child: ChildProcess, path: string, signal: NodeJS.Signals): Promise<void> {
  await expect.poll(() => existsSync(path)).toBe(true);
  child.kill(signal);
}

describe('a tidy-up that is overtaken by another command, once it has looked and before it has the lock,', () => {
  function overtaken(target: Target, ...args: string[][]): Target {
    return Object.defineProperty({ ...target }, 'verbLockPath', {
      get() {
        const env = { ...plainEnvironment(), ...store.environment };
        for (const each of args.splice(0)) execFileSync(program, each, { env });
        return target.verbLockPath;
      },
    });
  }

  it('takes nothing from a container that was made and started in a name that another left', async () => {
    await store.runBusybox('late', ...sleep);
    await killRun('late');
    rmSync(store.fileOf('late'));
    const own = new Store(store);
    await tidy(own, overtaken(namedTarget(own, 'late'), ['create', 'late', '--template', 'busybox', '--start', ...sleep]));
    await store.done('exec', 'late', 'true');
    await store.done('rm', '-f', 'late');
  });

  it('takes nothing from a FILE that was started again', async () => {
    await store.done('run', '-d', file);
    const id = (await store.inspect(file)).id as string;
    await killRun(id);
    const own = new Store(store);
    await tidy(own, overtaken(resolveTarget(own, file), ['run', '-d', file]));
    expect(await running()).toMatchObject([{ id, name: file }]);
    await store.done('stop', '-t', '0', file);
  });
});

describe('a throw-away copy', () => {
  it('is stopped, and all of it gone, while its FILE runs', async () => {
    await store.done('run', '-d', '--ephemeral', file);
    const copy = (await running())[0]?.id ?? '';
    await store.done('run', '-d', file);
    await store.done('stop', '-t', '0', copy);
    await expect.poll(() => keptOfFiles(copy)).toEqual([]);
    expect(await running()).toMatchObject([{ name: file, path: file }]);
    expect(await store.inspect(file)).toMatchObject({ state: 'running' });
    await store.done('stop', '-t', '0', file);
  });

  it('is not restarted: that would be the FILE', async () => {
    await store.done('run', '-d', '--ephemeral', file);
    const before = await running();
    for (const argument of [file, before[0]?.id ?? '']) {
      const refused = await store.loopbox(['restart', '-t', '0', argument]);
      expect(refused).toMatchObject({ code: 11, stderr: expect.stringContaining('a copy of it runs') });
    }
    // What it takes on the host may change.
    expect(await running()).toMatchObject(before.map(({ id, name, pid }) => ({ id, name, pid })));
    await store.done('stop', '-t', '0', file);
  });

  it('leaves nothing on the host, wherever it ends', async () => {
    const own = (await store.inspect(file)).id as string;
    await expect.poll(() => keptOfFiles().filter((name) => !name.startsWith(own))).toEqual([]);
    await store.done('run', '--ephemeral', file, '--', 'true');
    expect((await store.loopbox(['run', '--ephemeral', file, '--', '/nope'])).code).toBe(127);
    await store.done('run', '-d', '--ephemeral', file);
    const [copy] = await running();
    await killRun(copy?.id ?? '');
    expect(await running()).toEqual([]);
    await expect.poll(() => keptOfFiles().filter((name) => !name.startsWith(own))).toEqual([]);
  });
});

describe('what is known of a run', () => {
  it('of a FILE goes with the file', async () => {
    const gone = await exportedFile('c');
    const { id } = await store.inspect(gone);
    expect((await store.loopbox(['run', gone, '--', 'sh', '-c', 'echo old; exit 3'])).code).toBe(3);
    expect(await store.done('logs', gone)).toBe('old');
    await store.done('ls');
    expect(await store.inspect(gone)).toMatchObject({ state: 'failed', exitCode: 3 });
    rmSync(gone);
    await store.done('ls');
    await expect.poll(() => keptOfFiles(id as string)).toEqual([]);
  });

  it('of a FILE is not told of another one with its inode', async () => {
    const reused = await exportedFile('c');
    const other = await exportedFile('c');
    expect((await store.loopbox(['run', reused, '--', 'sh', '-c', 'echo old; exit 3'])).code).toBe(3);
    // The inode stays, as it may when a file is made where another one was removed.
    writeFileSync(reused, '');
    await shell('dd', `if=${other}`, `of=${reused}`, 'bs=1M', 'conv=sparse,notrunc');
    expect(await store.inspect(reused)).toMatchObject({ state: 'created', exitCode: null, endedAt: null });
    expect(await store.done('logs', reused)).toBe('');
    expect(await store.done('wait', reused)).toBe('0');
    await store.done('run', reused, '--', 'echo', 'new');
    expect(await store.done('logs', reused)).toBe('new');
  });

  it('of a container is not told of another one that was put in its place, and is there again with its file', async () => {
    await store.done('run', '--template', 'busybox', 'web', '--', 'echo', 'other');
    const path = store.fileOf('web');
    const [own, other] = [join(store.root, 'own'), join(store.root, 'other')];
    renameSync(path, other);
    await create('web', ['--', 'sh', '-c', 'echo own; exit 5']);
    await store.done('start', 'web');
    expect(await store.done('wait', 'web')).toBe('5');
    renameSync(path, own);
    renameSync(other, path);
    expect(await store.inspect('web')).toMatchObject({ state: 'stopped', exitCode: null });
    expect(await store.done('logs', 'web')).toBe('');

    renameSync(path, other);
    copyFileSync(own, path);
    expect(await store.inspect('web')).toMatchObject({ state: 'failed', reason: 'exit 5' });
    expect(await store.done('logs', 'web')).toBe('own');

    renameSync(other, path);
    await store.done('start', 'web');
    await store.done('wait', 'web');
    expect(await store.done('logs', 'web')).toBe('other');
    await store.done('rm', 'web');
  });
});

describe('a stop that is interrupted', () => {
  it('did not ask for the end that comes later', async () => {
    await create('stubborn', untilEnd(9));
    await store.done('start', 'stubborn');
    const requested = join(recordPath('stubborn'), '../stop-requested');
    await expect.poll(() => store.done('logs', 'stubborn')).toBe('up');
    const stopping = store.loopbox(['stop', '-t', '1000', 'stubborn'], {
      onStart: (child) => void signalAfter(child, requested, 'SIGINT'),
    });
    expect((await stopping).code).toBe(130);
    expect(await end('stubborn')).toBe('9');
    expect(await store.inspect('stubborn')).toMatchObject({ state: 'failed', reason: 'exit 9' });
    await store.done('rm', 'stubborn');
  });
});

describe('run --rm whose monitor was killed', () => {
  async function runWithoutMonitor(...command: string[]): Promise<void> {
    await store.done('run', '-d', '--rm', '--template', 'busybox', 'gone', ...command);
    await kill(recordOf('gone').conmonPid);
  }

  it('is removed by stop', async () => {
    await runWithoutMonitor(...sleep);
    await store.done('stop', '-t', '0', 'gone');
    await expect.poll(() => [existsSync(store.fileOf('gone')), ...keptOnHost(store)]).toEqual([false]);
  });

  it('is removed by ls once it has ended by itself', async () => {
    await runWithoutMonitor(...untilEnd(0));
    await store.loopbox(['exec', 'gone', 'touch', '/end']);
    await expect.poll(() => heldByKernel(store)).toEqual([]);
    await expect.poll(names).not.toContain('gone');
    await expect.poll(() => [existsSync(store.fileOf('gone')), ...keptOnHost(store)]).toEqual([false]);
  });

  it('stays for restart', async () => {
    await runWithoutMonitor(...sleep);
    await store.done('restart', '-t', '0', 'gone');
    await store.done('exec', 'gone', 'true');
    await store.done('rm', '-f', 'gone');
  });
});

it.each(['with', 'without'])('run --rm %s its monitor removes no file that took the place of its own', async (how) => {
  await store.done('run', '-d', '--rm', '--template', 'busybox', 'gone', ...sleep);
  if (how === 'without') await kill(recordOf('gone').conmonPid);
  await create('kept');
  renameSync(store.fileOf('kept'), store.fileOf('gone'));
  await store.done('stop', '-t', '0', 'gone');
  await expect.poll(() => existsSync(recordPath('gone'))).toBe(false);
  expect(await store.inspect('gone')).toMatchObject({ state: 'created' });
  await store.done('rm', 'gone');
});

describe('what the monitor of run --rm calls', () => {
  it('removes nothing but what it was promised', async () => {
    await create('kept');
    await store.runBusybox('ended', '--', 'true');
    await store.done('wait', 'ended');
    for (const id of ['../templates/busybox', 'kept', 'ended', 'none']) await store.loopbox(['rm', '--after-end', id]);
    expect(await names()).toEqual(expect.arrayContaining(['kept', 'ended']));
    expect(await store.done('template', 'ls', '-q')).toBe('busybox');
    await store.done('rm', 'kept', 'ended');
  });
});

describe('an impossible stop signal', () => {
  it('of a file is ignored by name', async () => {
    await create('hostile');
    await using file = await openLayer(store.fileOf('hostile'), { label: 'hostile', write: true });
    if (!file.manifest) throw new Error('The container has no manifest');
    await writeManifest(file, { ...file.manifest, config: { ...file.manifest.config, stopSignal: 'SIGFOO' } });
    await file.close();
    const started = await store.loopbox(['start', 'hostile']);
    expect(started).toMatchObject({ code: 0, stderr: expect.stringContaining('the stop signal "SIGFOO"') });
    expect(recordOf('hostile').stopSignal).toBe('SIGTERM');
    await store.done('restart', '-t', '0', 'hostile');
    await store.done('rm', '-f', 'hostile');
  });

  it('keeps no one from ending it by force', async () => {
    await store.done('start', 'c');
    writeFileSync(recordPath('c'), JSON.stringify({ ...recordOf('c'), stopSignal: 'SIGFOO' }));
    await store.done('stop', '-t', '0', 'c');
    expect(await store.inspect('c')).toMatchObject({ state: 'stopped', exitCode: 137 });
  });
});

describe('a run that can not be tidied up as usual', () => {
  it('because its runtime is not there any more needs none', async () => {
    const runtime = join(await temporaryDirectory(), 'runc');
    copyFileSync(await shell('sh', '-c', 'PATH=$PATH:/usr/sbin:/sbin; command -v runc'), runtime);
    await shell('chmod', '755', runtime);
    await store.done('--runtime', runtime, 'start', 'c');
    await killRun('c');
    rmSync(runtime);
    expect(await store.loopbox(['ls'])).toMatchObject({ code: 0, stderr: '' });
    await expect.poll(() => keptOnHost(store)).toEqual([]);
    await store.done('start', 'c');
    await store.done('stop', '-t', '0', 'c');
  });

  it('is warned of by ls, which goes on', async () => {
    await store.done('start', 'c');
    await killRun('c');
    const precious = join(recordPath('c'), '../rootfs/precious');
    writeFileSync(precious, '');
    const listed = await store.loopbox(['ls', '-q']);
    expect(listed).toMatchObject({ code: 0, stderr: expect.stringContaining('warning: Cannot tidy up after "c"') });
    expect(listed.stdout.split('\n')).toContain('c');
    expect(existsSync(precious)).toBe(true);
    rmSync(precious);
    await store.done('ls');
    await expect.poll(() => keptOnHost(store)).toEqual([]);
  });
});

it('nothing of ours locks a file at the end of its run, where a start would meet it', async () => {
  const trace = join(await temporaryDirectory(), 'trace');
  const args = ['-f', '-y', '-e', 'trace=flock', '-o', trace, program, 'run', file, '--', 'true'];
  expect(await execute('strace', args, { env: store.environment })).toMatchObject({ code: 0 });
  const locks = readFileSync(trace, 'utf8').match(new RegExp(`(?<=<${file}>, )[A-Z_|]+`, 'g'));
  expect(locks).toEqual(['LOCK_EX|LOCK_NB']);
});

it('a check that has a FILE’s lock dies with the command that began it, whatever kills that', async () => {
  const programs = await temporaryDirectory();
  const begun = join(programs, 'begun');
  writeFileSync(join(programs, 'e2fsck'), `#!/bin/sh\necho > ${begun}\nexec sleep 1000\n`, { mode: 0o755 });
  const env = { PATH: `${programs}:${process.env.PATH}` };
  const { code } = await store.loopbox(['run', file, '--', 'true'], {
    env,
    onStart: (child) => void signalAfter(child, begun, 'SIGKILL'),
  });
  expect(code).toBe(137);
  await expect.poll(() => lockIsFree(file)).toBe(true);
});
