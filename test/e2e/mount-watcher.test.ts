import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { expect, it } from 'vitest';
import { busyboxTar, cleanUp, execute, program, shell, TestStore, temporaryDirectory } from '../fixtures';

it('sees no mount of any verb in the host’s mount table', { retry: 2 }, () => expectNoMounts('1', []));

it('sees none in a mount namespace whose mounts are all shared', async () => {
  const holder = spawn('unshare', ['-m', '--propagation', 'private', 'sh', '-c', 'mount --make-rshared / && echo ready && exec sleep 600']);
  cleanUp(() => void holder.kill('SIGKILL'));
  await once(holder.stdout, 'data');
  const pid = String(holder.pid);
  await expectNoMounts(pid, ['nsenter', '--mount', '--target', pid]);
});

/** Runs verb after verb, with `prefix` before each command, while the mount table that process `pid` sees is watched. */
async function expectNoMounts(pid: string, prefix: string[]): Promise<void> {
  const store = await TestStore.create();
  const directory = await temporaryDirectory();
  const watcher = await MountWatcher.start(`/proc/${pid}/mounts`);
  const run = async (...args: string[]) => {
    const [command = '', ...rest] = [...prefix, ...args];
    return execute(command, rest, { env: store.environment });
  };
  for (const args of verbs(await busyboxTar(), directory)) {
    const result = await run(program, ...args);
    expect([args, result.code, result.stderr.replace(/^warning.*\n/gm, '')]).toEqual([args, 0, '']);
    expect([args, await watcher.changes()]).toEqual([args, 0]);
  }

  const target = join(directory, 'control');
  await shell('mkdir', target);
  await run('mount', '-t', 'tmpfs', 'none', target);
  expect(await watcher.changes()).toBeGreaterThan(0);
  await run('umount', target);
}

/** A run of everything that attaches, mounts or runs something, and the rest on the way. */
function verbs(tar: string, directory: string): string[][] {
  const [image, copy] = [join(directory, 'exported.img'), join(directory, 'template.img')];
  return [
    ['template', 'import', 'busybox', tar, '--size', '128M'],
    ['create', 'c', '--template', 'busybox', '--size', '256M', '--', 'sleep', '1000'],
    ['start', 'c'],
    ['exec', 'c', 'sh', '-c', 'echo data > /data'],
    ['set', 'c', '--memory', '64M'],
    ['ls'],
    ['ps'],
    ['inspect', 'c'],
    ['logs', 'c'],
    ['df'],
    ['info'],
    ['restart', '-t', '0', 'c'],
    ['kill', 'c', '-s', 'KILL'],
    ['wait', 'c'],
    ['stop', 'c'],
    ['set', 'c', '--hostname', 'other'],
    ['template', 'create', 'made', '--from', 'c'],
    ['template', 'ls'],
    ['template', 'inspect', 'made'],
    ['export', 'c', image],
    ['export', 'c', '-'],
    ['import', image, 'd'],
    ['template', 'import', 'raw', image],
    ['run', '-d', image],
    ['exec', image, 'cat', '/data'],
    ['stop', '-t', '0', image],
    ['run', '--ephemeral', image, '--', 'cat', '/data'],
    ['run', '--rm', '--template', 'made', '--', 'true'],
    ['run', '--rm', '--template', 'made', 'e', '--', 'cat', '/data'],
    ['export', 'd', copy],
    ['import', '--rescue', copy, 'f'],
    ['rename', 'd', 'g'],
    ['start', 'g'],
    ['rm', '-f', 'g'],
    ['rm', 'c', 'f'],
    ['template', 'rm', 'busybox', 'made', 'raw'],
    ['ls'],
  ];
}

class MountWatcher {
  readonly #child: ChildProcess;
  readonly #lines: AsyncIterator<string>;

  private constructor(child: ChildProcess, lines: AsyncIterator<string>) {
    this.#child = child;
    this.#lines = lines;
  }

  static async start(path: string): Promise<MountWatcher> {
    const child = spawn('python3', [join(import.meta.dirname, 'mount-watcher.py'), path], { stdio: ['pipe', 'pipe', 'inherit'] });
    cleanUp(() => void child.kill());
    const lines = createInterface(child.stdout)[Symbol.asyncIterator]();
    // Its first word: it watches from now on.
    await lines.next();
    return new MountWatcher(child, lines);
  }

  /** How often the mount table has changed so far. */
  async changes(): Promise<number> {
    this.#child.stdin?.write('\n');
    return Number((await this.#lines.next()).value);
  }
}
