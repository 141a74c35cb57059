import { type ChildProcess, spawn } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { mkdir, open, readFile, rm, symlink, truncate } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { MiB } from '../../src/units';
import { busyboxTar, cleanUp, type ExecuteResult, execute, program, shell, TestStore, temporaryDirectory } from '../fixtures';
import { heldByKernel, keptOnHost } from '../remains';
import { mounted } from '../trees';

let store: TestStore;
let exported: string;
/** A verb that waits for a lock that is never given back, from the beginning of this file on. */
let patient: Promise<ExecuteResult>;

beforeAll(async () => {
  store = await TestStore.create();
  await store.done('template', 'import', '--size', '128M', 't', await busyboxTar());
  await store.done('create', 'base', '--full', '--template', 't', '--', 'sleep', '1000');
  await store.done('create', 'held', '--full', '--template', 't');
  exported = join(await temporaryDirectory(), 'exported.img');
  await store.done('export', 'base', exported);
  await holdLock('held');
  patient = store.loopbox(['set', 'held', '--pids', '9']);
});

function storeFiles(): string[] {
  return ['containers', 'templates'].flatMap((name) => readdirSync(join(store.root, name))).sort();
}

/** Nothing came into being, and nothing is left of the attempt. */
async function expectUntouched(): Promise<void> {
  expect(storeFiles()).toEqual(['base.img', 'held.img', 't.img']);
  await expect.poll(() => [...heldByKernel(store), ...keptOnHost(store)]).toEqual([]);
}

/** Every verb that attaches an image. */
const verbs = async (): Promise<string[][]> => [
  ['create', 'new', '--full', '--template', 't'],
  ['template', 'import', '--size', '128M', 'new', await busyboxTar()],
  ['template', 'create', 'new', '--from', 'base'],
  ['import', exported, 'new'],
  ['start', 'base'],
  ['run', '-d', '--template', 't', 'new', '--', 'true'],
  ['run', '-d', exported, '--', 'true'],
  ['run', '-d', '--ephemeral', exported, '--', 'true'],
];

describe('without root', () => {
  it('every verb ends with 12, and what to type', async () => {
    for (const args of [...(await verbs()), ['ls'], ['info'], ['df'], ['stop', 'base'], ['exec', 'base', 'true'], ['rm', 'base']]) {
      // The checkout may lie where nobody may look.
      const nobody = ['--reuid=65534', '--regid=65534', '--clear-groups', '--inh-caps=+dac_read_search', '--ambient-caps=+dac_read_search'];
      const result = await execute('setpriv', [...nobody, program, ...args], { env: store.environment });
      expect([args[0], result]).toMatchObject([args[0], { code: args[0] === 'exec' ? 125 : 12, stdout: '' }]);
      expect(result.stderr).toBe('loopbox: Cannot run "loopbox": it needs root\nhint: sudo loopbox …\n');
    }
    expect(await execute('setpriv', ['--reuid=65534', '--clear-groups', 'true'])).toMatchObject({ code: 0 });
    await expectUntouched();
  });

  it('--help and --version work all the same', async () => {
    const nobody = ['--reuid=65534', '--regid=65534', '--clear-groups', '--inh-caps=+dac_read_search', '--ambient-caps=+dac_read_search'];
    for (const flag of ['--help', '--version'])
      expect(await execute('setpriv', [...nobody, program, flag])).toMatchObject({ code: 0, stderr: '' });
  });

  it('but with its name: what the kernel refuses ends with 12 and leaves nothing', async () => {
    for (const args of await verbs()) {
      const result = await execute('setpriv', ['--bounding-set=-sys_admin', program, ...args], { env: store.environment });
      expect([args, result.code, result.stderr]).toEqual([args, 12, expect.stringMatching(/^loopbox: Cannot .*EPERM|EACCES/)]);
      await expectUntouched();
    }
  });
});

describe('where something is missing on the host', () => {
  it('an OCI runtime: 15, and nothing is left', async () => {
    for (const runtime of ['nosuch', '/nowhere/runc', '/etc/passwd', './runc']) {
      for (const args of [
        ['start', 'base'],
        ['run', '-d', exported, '--', 'true'],
        ['run', '-d', '--template', 't', 'new', '--', 'true'],
      ]) {
        const result = await store.loopbox(['--runtime', runtime, ...args]);
        expect([runtime, result.code, result.stderr]).toEqual([
          runtime,
          15,
          expect.stringMatching(/^loopbox: Cannot run ".*": the program is not installed\n/),
        ]);
        await expectUntouched();
      }
    }
  });

  it('conmon, xz or zstd: 15, and the package that has it', async () => {
    const path = await temporaryDirectory();
    await symlink(process.execPath, join(path, 'node'));
    const archive = join(await temporaryDirectory(), 'archive');
    const cases: [string, string, string[]][] = [
      ['conmon', 'conmon', ['start', 'base']],
      ['conmon', 'conmon', ['run', '-d', exported, '--', 'true']],
      ['xz', 'xz-utils', ['template', 'import', '--size', '128M', 'new', `${archive}.xz`]],
      ['zstd', 'zstd', ['template', 'import', '--size', '128M', 'new', `${archive}.zstd`]],
    ];
    for (const packer of ['xz -0', 'zstd -q'])
      await shell('sh', '-c', `${packer} -c < ${await busyboxTar()} > ${archive}.${packer.split(' ')[0]}`);
    for (const [name, debianPackage, args] of cases) {
      expect(await execute(program, args, { env: { ...store.environment, PATH: path } })).toMatchObject({
        code: 15,
        stderr: `loopbox: Cannot run "${name}": the program is not installed\nhint: apt-get install ${debianPackage}\n`,
      });
      await expectUntouched();
    }
  });

  /** Runs loopbox where the commands have changed /dev, which no one else sees. */
  function withDevices(commands: string, args: string[]): Promise<ExecuteResult> {
    const script = `${commands} && exec "$@"`;
    return execute('unshare', ['-m', '--propagation', 'slave', 'sh', '-c', script, 'sh', program, ...args], { env: store.environment });
  }

  const ownDevices = 'mount -t tmpfs none /dev && ln -s /proc/self/fd /dev/fd && mknod /dev/null c 1 3';

  it.each([
    ['/dev/loop-control', ownDevices, /the host has no \/dev\/loop-control\n/, 7],
    // What waits for udev in vain does so for 2 s.
    ['the devices themselves', `${ownDevices} && mknod /dev/loop-control c 10 237`, /the host has no \/dev\/loop\d+\n/, 1],
    ['a loop-control that is one', 'mount --bind /dev/null /dev/loop-control', /the host's \/dev\/loop-control is none\n/, 7],
  ])('%s: 15, and nothing is left', async (_, commands, words, count) => {
    for (const args of (await verbs()).slice(0, count)) {
      const result = await withDevices(commands, args);
      expect([args, result.code, result.stderr]).toEqual([args, 15, expect.stringMatching(words)]);
      await expectUntouched();
    }
  });
});

/** Holds the verb lock of a container, as a command does that works on it. */
async function holdLock(name: string): Promise<() => Promise<void>> {
  const path = join(store.root, '.locks', name);
  const child = spawn('flock', [path, 'sh', '-c', 'echo held; exec sleep 1000'], { stdio: ['ignore', 'pipe', 'inherit'] });
  await new Promise((resolve) => child.stdout?.once('data', resolve));
  const release = async () => {
    if (child.exitCode !== null || child.signalCode !== null) return;
    const ended = new Promise((resolve) => child.once('exit', resolve));
    // flock and its sleep hold the same lock.
    await execute('pkill', ['-P', String(child.pid)]);
    await ended;
  };
  cleanUp(release);
  return release;
}

/** Runs a command that must wait for a lock; `whenWaiting` is called once it has found that somebody holds it. */
async function runWaiting(args: string[], whenWaiting: (child: ChildProcess) => unknown): Promise<ExecuteResult> {
  const trace = join(await temporaryDirectory(), 'trace');
  let child: ChildProcess | undefined;
  // -D: the command is our child, and strace is beside it.
  const running = execute('strace', ['-D', '-f', '-qq', '-e', 'trace=flock', '-o', trace, program, ...args], {
    env: store.environment,
    onStart: (started) => (child = started),
  });
  await expect.poll(() => readFile(trace, 'utf8').catch(() => '')).toContain('EAGAIN');
  await whenWaiting(child as ChildProcess);
  return running;
}

describe('two commands at once', () => {
  it('on one container: the second waits, and ls says that it is busy', async () => {
    const release = await holdLock('base');
    const second = await runWaiting(['set', 'base', '--pids', '33'], async (child) => {
      const listed = JSON.parse(await store.done('ls', '--format', 'json')) as { name: string; busy: boolean }[];
      expect(listed.find(({ name }) => name === 'base')?.busy).toBe(true);
      expect((await store.inspect('base')).limits).toEqual({});
      expect(child.exitCode).toBeNull();
      await release();
    });
    expect(second).toMatchObject({ code: 0, stderr: '' });
    expect((await store.inspect('base')).limits).toEqual({ pids: 33 });
  });

  it('on one container: Ctrl-C ends the waiting', async () => {
    const release = await holdLock('base');
    for (const [args, signal, code] of [
      [['start', 'base'], 'SIGINT', 130],
      [['stop', 'base'], 'SIGTERM', 143],
      [['export', 'base', join(store.root, 'x.img')], 'SIGINT', 130],
    ] as const) {
      const second = await runWaiting([...args], (child) => child.kill(signal));
      expect([args, second.code]).toEqual([args, code]);
    }
    await release();
    await expectUntouched();
  });

  it('that make one name: one does, the others end with 11', async () => {
    for (const args of [
      ['create', 'new', '--template', 't'],
      ['import', exported, 'new'],
      ['template', 'import', 'new', exported],
      ['run', '-d', '--template', 't', 'new', '--', 'sleep', '1000'],
    ]) {
      const results = await Promise.all(Array.from({ length: 5 }, () => store.loopbox(args)));
      expect([args, results.map(({ code }) => code).sort((a, b) => a - b)]).toEqual([args, [0, 11, 11, 11, 11]]);
      for (const { code, stderr } of results) if (code === 11) expect(stderr).toContain('exists');
      if (args[0] === 'template') await store.done('template', 'rm', 'new');
      else await store.done('rm', '-f', 'new');
    }
    await store.done('ls');
    await expectUntouched();
  });

  it('that take one name away: it is gone, and no one breaks', async () => {
    await store.done('create', 'new', '--template', 't');
    const results = await Promise.all(Array.from({ length: 4 }, () => store.loopbox(['rm', 'new'])));
    expect(results.map(({ code }) => code)).toContain(0);
    // Who waited meanwhile has nothing to do; who came later finds nothing.
    for (const { code, stderr } of results)
      expect([code, stderr]).toEqual(code === 0 ? [0, ''] : [10, expect.stringContaining('does not exist')]);
    await expectUntouched();
  });

  it('where the first does not end: the second gives up with 11', async () => {
    expect(await patient).toMatchObject({
      code: 11,
      stderr: expect.stringContaining('Cannot work on "held": another command has been at it for 10 s'),
    });
  });
});

describe('a template', () => {
  const path = () => join(store.root, 'templates/new.img');

  it.each<[string, () => Promise<unknown>]>([
    ['was labelled by tune2fs', () => shell('tune2fs', '-L', 'mine', path())],
    [
      'was mounted for writing',
      () => shell('tune2fs', '-O', '^read-only', path()).then(() => mounted(path(), 'loop', () => shell('true'))),
    ],
    ['was repaired by e2fsck', () => shell('e2fsck', '-fy', path())],
    ['was lengthened', () => truncate(path(), 128 * MiB + 128 * 1024)],
    ['had its superblock overwritten', () => overwrite(1024 + 0x34)],
  ])('that %s is refused with 13, by name', async (_, change) => {
    await store.done('template', 'import', '--size', '128M', 'new', await busyboxTar());
    try {
      await change();
      for (const args of [
        ['create', 'broken', '--template', 'new'],
        ['run', '-d', '--template', 'new', 'broken', '--', 'true'],
      ]) {
        const result = await store.loopbox(args);
        expect([args, result.code, result.stderr]).toEqual([args, 13, expect.stringMatching(/^loopbox: Cannot (use|open) "new": /)]);
      }
    } finally {
      await store.done('template', 'rm', 'new');
    }
    await expectUntouched();
  });

  it('that was never sealed is refused, by name', async () => {
    const foreign = join(await temporaryDirectory(), 'foreign.img');
    await shell('mke2fs', '-q', '-t', 'ext4', foreign, '128M');
    for (const source of [foreign, exported]) {
      await shell('cp', '--sparse=always', source, path());
      expect(await store.loopbox(['create', 'broken', '--template', 'new'])).toMatchObject({
        code: 11,
        stderr: expect.stringContaining('Cannot use template "new": it is not sealed'),
      });
      expect(await store.done('template', 'ls')).toContain('not sealed');
      await rm(path());
    }
    await expectUntouched();
  });

  it('that is looked at, mounted read-only or copied stays one', async () => {
    await store.done('template', 'import', '--size', '128M', 'new', await busyboxTar());
    await shell('e2fsck', '-fn', path());
    await mounted(path(), 'loop,ro', () => shell('true'));
    await mounted(path(), 'loop', () => shell('true'));
    await shell('cp', '--sparse=always', path(), join(store.root, 'templates/copy.img'));
    for (const name of ['new', 'copy']) {
      await store.done('create', 'fine', '--template', name);
      await store.done('rm', 'fine');
      await store.done('template', 'rm', name);
    }
    await expectUntouched();
  });

  async function overwrite(position: number): Promise<void> {
    await using file = await open(path(), 'r+');
    await file.write(Buffer.from([0x77]), 0, 1, position);
  }
});

describe('a store whose directories are not as they should be', () => {
  it('is told so', async () => {
    const place = await temporaryDirectory();
    await shell('sh', '-c', `: > ${place}/file; mkdir ${place}/odd ${place}/odd/containers; : > ${place}/odd/templates`);
    for (const root of [`${place}/file`, `${place}/file/below`, `${place}/odd`]) {
      for (const args of [
        ['create', 'c', '--template', 't'],
        ['template', 'import', 'x', await busyboxTar()],
        ['import', exported, 'new'],
      ]) {
        const result = await store.loopbox(['--root', root, ...args]);
        expect([root, args[0], result.stderr]).toEqual([root, args[0], expect.stringMatching(/^loopbox: Cannot /)]);
        expect(result.code).toBeGreaterThan(0);
      }
    }
    await mkdir(join(place, 'odd/containers/dir.img'));
    await symlink(exported, join(place, 'odd/containers/link.img'));
    await shell('mkfifo', join(place, 'odd/containers/fifo.img'));
    await rm(join(place, 'odd/templates'));
    expect(await store.done('--root', `${place}/odd`, 'ls', '-q')).toBe('');
    for (const name of ['dir', 'link', 'fifo']) {
      expect(await store.loopbox(['--root', `${place}/odd`, 'start', name])).toMatchObject({ code: 15 });
    }
  });
});
