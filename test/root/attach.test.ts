import { type ChildProcess, spawn } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import type { Readable, Writable } from 'node:stream';
import { expect, it } from 'vitest';
import { packageDirectory } from '../../src/package';
import { inspectRun } from '../../src/runtime/status';
import { MiB } from '../../src/units';
import { cleanUp, temporaryDirectory } from '../fixtures';
import { TestContainer } from './test-container';

interface Client {
  child: ChildProcess;
  input: Writable;
  /** All that it writes to its standard output, until its end. */
  output: Promise<Buffer>;
  ended: Promise<[code: number | null, signal: string | null]>;
}

/** The attach client with pipes in place of the caller's streams; connected when it returns. */
async function attach(container: TestContainer, ...options: string[]): Promise<Client> {
  const { attachSocket, ctl } = container.directory;
  const child = spawn(join(packageDirectory, 'build/loopbox-attach'), ['--socket', attachSocket, '--ctl', ctl, ...options], {
    stdio: ['pipe', 'pipe', 'inherit', 'pipe'],
  });
  cleanUp(() => void child.kill('SIGKILL'));
  const ended = once(child, 'exit') as Client['ended'];
  // From the start: Node throws away what nobody has asked for at a program's end.
  const output = bytesOf(child.stdout as Readable);
  await once(child.stdio[3] as Readable, 'data');
  return { child, input: child.stdin as Writable, output, ended };
}

async function startAttached(container: TestContainer, command: string[], ...options: string[]): Promise<Client> {
  let client: Client | undefined;
  const beforeStart = async () => {
    client = await attach(container, ...options);
  };
  await container.start({ command, stdin: true, terminal: options.includes('--tty'), beforeStart });
  if (!client) throw new Error('The client was not asked for');
  return client;
}

async function bytesOf(stream: Readable): Promise<Buffer> {
  return Buffer.concat((await stream.toArray()) as Buffer[]);
}

const hashOf = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex');

it('carries 100 MB of anything both ways, and the end of input', async () => {
  const container = await TestContainer.create();
  const { input, output, ended } = await startAttached(container, ['cat'], '--stdin');
  const bytes = randomBytes(100 * MiB);
  input.end(bytes);
  const received = await output;
  expect({ length: received.length, hash: hashOf(received) }).toEqual({ length: bytes.length, hash: hashOf(bytes) });
  expect(await ended).toEqual([0, null]);
  expect(await container.ended()).toMatchObject({ exitCode: 0 });
});

it('misses nothing of a command that ends at once', async () => {
  const container = await TestContainer.create();
  for (let round = 0; round < 5; round++) {
    const { output, ended } = await startAttached(container, ['echo', 'first and last']);
    expect(String(await output)).toBe('first and last\n');
    await ended;
    await container.ended();
  }
});

it('works below a directory whose path is longer than the address of a socket', async () => {
  const deep = join(await temporaryDirectory(), 'x'.repeat(100), 'run');
  mkdirSync(deep, { recursive: true });
  const container = await TestContainer.create(deep);
  const { output, ended } = await startAttached(container, ['sh', '-c', 'tty'], '--tty');
  expect(String(await output)).toBe('/dev/pts/0\r\n');
  await ended;
  expect(await container.ended()).toMatchObject({ exitCode: 0 });
});

it("does not hide the container's end where it reads nothing", async () => {
  const container = await TestContainer.create();
  const { child } = await startAttached(container, ['sh', '-c', 'yes; exit 1']);
  child.kill('SIGSTOP');
  // The monitor logs what it reads, until it has to wait for the client.
  let size = -1;
  await expect.poll(() => size === (size = statSync(container.logPath).size), { interval: 300 }).toBe(true);
  process.kill(container.record.pid, 'SIGKILL');
  const end = { running: false, monitorAlive: true, last: { exitCode: 137 } };
  await expect.poll(() => inspectRun(container.directory)).toMatchObject(end);
  expect(await container.isFree()).toBe(true);
  expect(await container.ended()).toMatchObject({ exitCode: 137 });
});

it('dies with its parent, and leaves the container running', async () => {
  const container = await TestContainer.create();
  await container.start();
  const { attachSocket, ctl } = container.directory;
  const program = join(packageDirectory, 'build/loopbox-attach');
  // The shell stands for a command that is killed; it writes the client's pid before.
  const shell = spawn('sh', ['-c', `"${program}" --socket "${attachSocket}" --ctl "${ctl}" 3>&1 >&2 & echo $!; wait`], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let said = '';
  shell.stdout.on('data', (chunk: Buffer) => (said += chunk.toString()));
  // The client says a word, too, before or after.
  await expect.poll(() => said).toMatch(/\d+\n/);
  const pid = Number(/\d+/.exec(said)?.[0]);
  await expect.poll(() => container.processes('loopbox-attach')).toContain(pid);
  shell.kill('SIGKILL');
  await expect.poll(() => container.processes('loopbox-attach')).toEqual([]);
  expect(await inspectRun(container.directory)).toMatchObject({ running: true, monitorAlive: true });
});

it('leaves the keys of the terminal to its parent where it has no terminal', async () => {
  const container = await TestContainer.create();
  const { child, input, output, ended } = await startAttached(container, ['cat'], '--stdin');
  for (const signal of ['SIGINT', 'SIGQUIT', 'SIGTERM'] as const) child.kill(signal);
  input.end('still here');
  expect(String(await output)).toBe('still here');
  expect(await ended).toEqual([0, null]);
  await container.ended();
});
