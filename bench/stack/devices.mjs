import { spawn } from 'node:child_process';
import { closeSync, constants, existsSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { basename, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { output } from '../harness/command.mjs';
import { repository } from '../harness/workspace.mjs';

// A device is `{ path, pids, close() }`: a loop device, and the processes that serve it.

/** The traditional loop device on a file, at its best: direct I/O, 4096-byte blocks. */
export function kernelLoop(workspace, file, sizeBytes) {
  const path = output('losetup', ['--find', '--show', '--direct-io=on', '--sector-size=4096', `--sizelimit=${sizeBytes}`, file]);
  return { path, pids: [], close: workspace.cleanUp(() => output('losetup', ['--detach', path])) };
}

const built = createRequire(join(repository, 'dist/'));

/**
 * A chain behind our server. Every layer is read past the page cache, as the top always is; with `isCached` all but the top are read
 * through it, as `start` has it. Ends with this program, if not before.
 */
export async function served(workspace, label, layers, { spinMicroseconds, transport, isCached = false } = {}) {
  const { startStackServer } = built('./loop/stack-server.js');
  const { StackControl } = built('./loop/stack-control.js');
  const open = layers.map(({ path, ...layer }, index) => {
    const isTop = index === layers.length - 1;
    const flags = isTop ? constants.O_RDWR | constants.O_DIRECT : isCached ? constants.O_RDONLY : constants.O_RDONLY | constants.O_DIRECT;
    return { ...layer, fd: openSync(path, flags) };
  });
  const controlPath = workspace.path(`${label}.control`);
  try {
    const start = () =>
      startStackServer({
        label,
        controlPath,
        logPath: workspace.path(`${label}.log`),
        layers: open,
        sizeBytes: layers.at(-1).sizeBytes,
        moveToCgroup: () => {},
        warn: (text) => console.error(`bench: ${text}`),
        spinMicroseconds,
        transport,
      });
    const { loop, pid } = await (transport === 'fuse-uring' ? withUring(start) : start());
    const { worker } = await new StackControl(controlPath, label).status();
    const close = async () => {
      await loop.close();
      await hasEnded(pid);
    };
    return { path: loop.path, pids: [pid, worker], close };
  } finally {
    for (const { fd } of open) closeSync(fd);
  }
}

const uringSwitch = '/sys/module/fuse/parameters/enable_uring';

/** Whether the kernel can bring requests over io_uring. */
export function hasUring() {
  return existsSync(uringSwitch);
}

/** Does something while FUSE over io_uring is switched on. */
async function withUring(body) {
  const before = readFileSync(uringSwitch, 'utf8');
  writeFileSync(uringSwitch, 'Y');
  try {
    return await body();
  } finally {
    writeFileSync(uringSwitch, before);
  }
}

/** What a program serves that prints `DEVICE PID` and ends with its standard input. */
export async function servedBy(program, args) {
  const server = spawn(program, args, { stdio: ['pipe', 'pipe', 'ignore'] });
  const ended = new Promise((resolve) => server.once('exit', resolve));
  const [path, worker] = await new Promise((resolve, reject) => {
    let words = '';
    server.stdout.on('data', (data) => (words += data).includes('\n') && resolve(words.trim().split(' ')));
    server.once('error', reject).once('exit', () => reject(new Error(`${basename(program)} has ended`)));
  });
  const close = async () => {
    server.stdin.end();
    await ended;
  };
  return { path, pids: [server.pid, Number(worker)], close };
}

async function hasEnded(pid) {
  for (let tries = 0; existsSync(`/proc/${pid}`); tries++, await sleep(10)) {
    if (tries === 500) throw new Error(`The storage server ${pid} did not end`);
  }
}
