import { type ChildProcess, spawn } from 'node:child_process';
import { readdirSync, readFileSync, readlinkSync, statSync } from 'node:fs';
import { basename, join } from 'node:path';
import { beforeAll, expect, it } from 'vitest';
import { cleanUp, execute, plainEnvironment, program, type TestStore, temporaryDirectory } from '../fixtures';
import { isSystemError } from '../../src/errors';
import { processesOf, type StoreProcess } from '../remains';
import { childrenOf } from '../served-chain';
import { sleep, storeWithSleeper } from '../sleeper';
import { kill } from '../victims';

let store: TestStore;

beforeAll(async () => {
  store = await storeWithSleeper('c');
  await store.createBusybox('direct', '--full', '--attach', 'direct', ...sleep);
});

it.each([
  { how: 'directly', name: 'direct', mounts: [], server: [], watcher: [] },
  { how: 'by a storage server', name: 'c', mounts: ['fsmount by loopbox-server'], server: ['loopbox-server'], watcher: ['loopbox-server'] },
])(
  'attaches $how, mounts and takes the mount to a namespace of its own before the runtime makes its own, and executes nothing else',
  async ({ name, mounts, server, watcher }) => {
    const path = join(await temporaryDirectory(), 'trace');
    const calls = 'execve,ioctl,fsmount,move_mount,unshare,clone,clone3';
    const options = ['-f', '--decode-pids=comm', '-s', '300', '-e', 'abbrev=none', '-e', `trace=${calls}`, '-o', path];
    const traced = execute('strace', [...options, process.execPath, program, 'start', name], { env: store.environment });
    // strace itself goes on as long as the container does.
    await expect.poll(() => linesOfStart(path), { timeout: 30_000 }).toBeDefined();
    await store.done('stop', '-t', '0', name);
    await traced;

    const lines = linesOfStart(path) ?? [];
    expect([...new Set(lines.map(stepOf))].filter(Boolean)).toEqual([
      ...mounts,
      'LOOP_CONFIGURE by node',
      'fsmount by node',
      'unshare(CLONE_NEWNS) by loopbox-oci',
      'move_mount by loopbox-oci',
      'namespaces by runc',
    ]);
    const commands = lines.map(executed).filter((command) => command !== undefined && command !== 'sleep');
    expect(commands).toEqual([
      'node',
      ...server,
      'conmon',
      'loopbox-oci',
      'runc create',
      'runc init',
      ...watcher,
      'loopbox-oci',
      'runc start',
    ]);
  },
);

it('leaves no descriptor of device, mount, image or lock to any other process', async () => {
  await store.done('start', 'c');
  await expect.poll(() => namesOf(othersOf(store))).toEqual(['conmon', 'loopbox-watch', 'sleep']);
  for (const { pid, name } of othersOf(store)) expect([name, descriptorsOfOurs(pid)]).toEqual([name, []]);
  await store.done('stop', '-t', '0', 'c');
});

it('leaves none in the foreground either, where an attach client runs beside', async () => {
  const child = spawn(program, ['run', '--rm', '--template', 'busybox', 'fore', '--', 'sh', '-c', 'echo up; sleep 1000 & wait'], {
    env: { ...plainEnvironment(), ...store.environment },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const ended = new Promise((resolve) => child.once('exit', resolve));
  cleanUp(() => void child.kill('SIGKILL'));
  await new Promise((resolve) => child.stdout.once('data', resolve));
  await expect.poll(() => namesOf(othersOf(store))).toEqual(['conmon', 'loopbox-attach', 'loopbox-watch', 'sh', 'sleep']);
  for (const { pid, name } of othersOf(store)) expect([name, descriptorsOfOurs(pid)]).toEqual([name, []]);
  await store.done('stop', '-t', '0', 'fore');
  await ended;
});

it('finds such descriptors where there are any', async () => {
  const holder = spawn('flock', [store.fileOf('c'), 'sleep', '600']);
  cleanUp(() => killWithChildren(holder));
  await expect.poll(() => descriptorsOfOurs(holder.pid ?? 0)).toEqual([expect.stringContaining(store.fileOf('c'))]);
  await store.done('run', '-d', '--template', 'busybox', 'inside', '--', 'sh', '-c', 'exec 9<>/etc/passwd; exec sleep 1000');
  const { pid } = await store.inspect('inside');
  await expect.poll(() => descriptorsOfOurs(Number(pid))).toEqual(['9: /etc/passwd on a loop device']);
});

interface TraceLine {
  /** Of the program that makes the call. */
  name: string;
  call: string;
}

/** The trace up to the end of the first process; undefined while that has not ended. */
function linesOfStart(path: string): TraceLine[] | undefined {
  const lines = wholeLines(readFileSync(path, 'utf8').split('\n'));
  const first = /^\d+/.exec(lines[0] ?? '')?.[0];
  const end = lines.findIndex((line) => line.startsWith(`${first}<`) && line.includes('+++ exited with 0 +++'));
  if (end < 0) return undefined;
  // strace looks up a process's name once; a program that it executes later has another.
  const names = new Map<string, string>();
  return lines.slice(0, end).map((line) => {
    const [, pid = '', comm = '', call = ''] = /^(\d+)<(.*?)> +(.*)$/.exec(line) ?? [];
    const traced = { name: names.get(pid) ?? comm, call };
    const program = executed(traced)?.split(' ')[0];
    if (program) names.set(pid, program);
    return traced;
  });
}

/** The trace with each call in one line, where it began: strace ends the line later if others call meanwhile. */
function wholeLines(lines: string[]): string[] {
  return lines.flatMap((line, index) => {
    if (/^\d+<.*?> +<\.\.\. /.test(line)) return [];
    const [, begun, pid] = /^((\d+)<.*) <unfinished \.\.\.>$/.exec(line) ?? [];
    if (begun === undefined) return [line];
    // Where a thread executes a program, the call ends as one of the process.
    const next = lines.slice(index + 1).find((later) => later.startsWith(`${pid}<`)) ?? '';
    return [begun + (/<\.\.\. \w+ resumed>(.*)$/.exec(next)?.[1] ?? '')];
  });
}

function stepOf({ name, call }: TraceLine): string | undefined {
  const by = `by ${/^(node|libuv-worker)$/.test(name) ? 'node' : name.replace(/^runc:.*/, 'runc')}`;
  const [, request] = /^ioctl\(\d+, (LOOP_CONFIGURE)/.exec(call) ?? /^(fsmount|move_mount)\(/.exec(call) ?? [];
  if (request) return `${request} ${by}`;
  if (!/^(unshare|clone3?)\(.*CLONE_NEW/.test(call)) return undefined;
  return by === 'by runc' ? `namespaces ${by}` : `${/^unshare\(\w+\)/.exec(call)?.[0] ?? call} ${by}`;
}

/** The program of a successful execve, of the OCI runtime with its verb. */
function executed({ call }: TraceLine): string | undefined {
  const [, quoted] = /^execve\(".*?", \[(.*?)\]/.exec(call) ?? [];
  if (quoted === undefined || call.includes('= -1')) return undefined;
  const [command = '', ...args] = quoted.split(', ').map((argument) => argument.slice(1, -1));
  const verb = basename(command) === 'runc' && args.find((argument) => /^(create|init|start|delete|state|kill)$/.test(argument));
  return verb ? `runc ${verb}` : basename(command);
}

/** All but the storage server, which has to hold the files. */
function othersOf(store: TestStore): StoreProcess[] {
  return processesOf(store).filter(({ name }) => !/^loopbox-(keeper|worker)$/.test(name));
}

function namesOf(processes: StoreProcess[]): string[] {
  return processes.map(({ name }) => name).sort();
}

const loopMajor = 7;

/** A process's descriptors of loop devices, of what is mounted from one, of image and lock files, and those with a lock. */
function descriptorsOfOurs(pid: number): string[] {
  return readdirSync(`/proc/${pid}/fd`).flatMap((fd) => {
    const looked = lookAt(pid, fd);
    if (!looked) return [];
    const { target, dev, rdev, isLocked } = looked;
    const isOnLoop = dev >> 8 === loopMajor || rdev >> 8 === loopMajor;
    const isOurs = /\/dev\/loop|\.(img|delta)$|\.locks\/|\.structure$|\/watch$/.test(target);
    if (!isOnLoop && !isLocked && !isOurs) return [];
    return [`${fd}: ${target}${isOnLoop ? ' on a loop device' : ''}`];
  });
}

/** Undefined where the descriptor is closed meanwhile. */
function lookAt(pid: number, fd: string) {
  const path = `/proc/${pid}/fd/${fd}`;
  try {
    const { dev, rdev } = statSync(path);
    return { target: readlinkSync(path), dev, rdev, isLocked: /^lock:/m.test(readFileSync(`/proc/${pid}/fdinfo/${fd}`, 'utf8')) };
  } catch (error) {
    if (isSystemError(error, 'ENOENT')) return undefined;
    throw error;
  }
}

async function killWithChildren(child: ChildProcess): Promise<void> {
  for (const pid of childrenOf(child.pid ?? 0)) await kill(pid);
  child.kill('SIGKILL');
}
