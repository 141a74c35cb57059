import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync } from 'node:fs';
import { mkdir, open, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it, vi } from 'vitest';
import { readLoop } from '../../src/loop/list-loops';
import { attachGuard, type StackServer } from '../../src/loop/stack-server';
import { ContainerCgroups } from '../../src/runtime/cgroups';
import { readProcess } from '../../src/runtime/processes';
import { GiB, KiB, MiB } from '../../src/units';
import { cleanUp, execute, seededRandom, shell } from '../fixtures';
import { checksum } from '../image-view';
import { childrenOf, goneWithinMs, hasEndedWithin, holdersOf, mountServed, ServedChain, workerOf } from '../served-chain';
import { transportsHere } from '../uring-switch';
import { sendKill } from '../victims';

function identity({ pid, pidStart }: StackServer) {
  return { pid, start: pidStart };
}

/** Of keeper and worker: now, or at most so far. */
async function residentKiB(server: StackServer, which: 'VmRSS' | 'VmHWM' = 'VmRSS'): Promise<number> {
  const pids = [server.pid, await workerOf(server)];
  const of = (pid: number) => Number(new RegExp(`${which}:\\s+(\\d+)`).exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]);
  return pids.reduce((sum, pid) => sum + of(pid), 0);
}

function nameOf(pid: number): string {
  return readFileSync(`/proc/${pid}/comm`, 'utf8').trim();
}

/** A whole fio run on a device with everything read back; its output where it finds an error. */
function fio(device: string, ...args: string[]) {
  const common = [
    '--direct=1',
    '--verify=crc32c',
    '--verify_state_save=0',
    '--verify_fatal=1',
    '--randrepeat=1',
    '--output-format=terse',
    '--ioengine=libaio',
  ];
  return execute('fio', ['--name=verify', `--filename=${device}`, ...common, ...args], { timeoutMs: 300_000 });
}

/** Reads and writes at the device's beginning, past every cache; rejects with EIO where there is no storage any more. */
async function touch(device: string): Promise<void> {
  await shell('dd', `if=${device}`, 'of=/dev/null', 'bs=4096', 'count=1', 'iflag=direct', 'status=none');
}

describe.each(transportsHere)('a served chain, by %s,', (transport) => {
  it('is a disk that keeps what is written, and leaves what is below its top alone', async () => {
    const chain = await ServedChain.create({ deltas: 2 });
    const base = await checksum(chain.imagePath);
    const content = Buffer.alloc(5 * MiB, 'content ');
    const server = await chain.serve({ transport });
    const mount = await mountServed(server.loop);
    await server.loop.close();
    await writeFile(join(mount, 'file'), content);
    await shell('umount', mount);
    expect(await hasEndedWithin(identity(server), goneWithinMs)).toBe(true);

    const again = await chain.serve({ transport });
    const secondMount = await mountServed(again.loop);
    expect((await readFile(join(secondMount, 'file'))).equals(content)).toBe(true);
    await shell('umount', secondMount);
    await shell('e2fsck', '-fn', again.loop.path);
    await again.loop.close();
    expect(await hasEndedWithin(identity(again), goneWithinMs)).toBe(true);
    expect(await checksum(chain.imagePath)).toBe(base);
    await expect.poll(() => chain.remains()).toEqual([]);
  });

  it('is one image where that is all of it', async () => {
    const chain = await ServedChain.create({ deltas: 0 });
    const { loop } = await chain.serve({ transport });
    const mount = await mountServed(loop);
    await writeFile(join(mount, 'file'), 'in the image');
    await shell('umount', mount);
    await loop.close();
    await shell('e2fsck', '-fn', chain.imagePath);
    expect(await shell('debugfs', '-R', 'cat /file', chain.imagePath)).toBe('in the image');
  });

  it('has settings of its own as a loop device', async () => {
    const chain = await ServedChain.create();
    const { loop } = await chain.serve({ transport });
    const setting = (name: string) => readFileSync(`/sys/block/loop${loop.index}/${name}`, 'utf8').trim();
    expect(loop.directIo).toBe(true);
    expect(setting('loop/autoclear')).toBe('1');
    expect(setting('loop/backing_file')).toBe(`/${chain.label}`);
    expect(setting('queue/logical_block_size')).toBe('4096');
    expect(setting('queue/rq_affinity')).toBe('2');
    expect(setting('queue/max_sectors_kb')).toBe('1024');
    expect(Number(setting('size')) * 512).toBe(64 * MiB);
  });

  it('may be one of several at a time', async () => {
    const servers = await Promise.all(
      [1, 2, 3].map(async (number) => {
        const server = await (await ServedChain.create()).serve({ transport });
        await writeFile(server.loop.path, String(number).repeat(64 * KiB), { flag: 'r+' });
        return server;
      }),
    );
    for (const [index, { loop }] of servers.entries()) {
      await shell('blockdev', '--flushbufs', loop.path);
      expect((await readFile(loop.path)).subarray(0, 64 * KiB).toString()).toBe(String(index + 1).repeat(64 * KiB));
    }
  });

  it('takes little memory, however long its chain is', async () => {
    for (const [deltas, sizeBytes] of [
      [1, 64 * MiB],
      [1, 10 * GiB],
      [126, 10 * GiB],
    ] as const) {
      const chain = await ServedChain.create({ deltas, sizeBytes });
      let resident = 0;
      for (let round = 0; round < 5; round++) {
        const server = await chain.serve({ transport });
        await touch(server.loop.path);
        resident += (await residentKiB(server)) / 5;
        await server.loop.close();
        await hasEndedWithin(identity(server), goneWithinMs);
      }
      expect(resident).toBeLessThan(8 * KiB);
    }
  });

  it('takes memory for many requests at once, and gives it back at rest', async () => {
    const server = await (await ServedChain.create()).serve();
    await shell('dd', 'if=/dev/zero', `of=${server.loop.path}`, 'bs=32M', 'count=2', 'oflag=direct', 'status=none');
    expect(await residentKiB(server, 'VmHWM')).toBeGreaterThan(8 * KiB);
    await vi.waitFor(async () => expect(await residentKiB(server)).toBeLessThan(8 * KiB), { timeout: 20_000, interval: 200 });
    await shell('dd', `if=${server.loop.path}`, 'of=/dev/null', 'bs=32M', 'iflag=direct', 'status=none');
  });
});

describe('the server of a chain', () => {
  it('is two processes in a session of their own, which alone hold /dev/fuse', async () => {
    // Other file systems of the host may be served, too.
    const others = await holdersOf('/dev/fuse');
    const server = await (await ServedChain.create()).serve();
    const worker = await workerOf(server);
    expect([server.pid, worker].map(nameOf)).toEqual(['loopbox-keeper', 'loopbox-worker']);
    const holders = async () => new Set((await holdersOf('/dev/fuse')).filter((pid) => !others.includes(pid)));
    await expect.poll(holders).toEqual(new Set([server.pid, worker]));
    expect(await shell('ps', '-o', 'sid=', '-p', String(worker))).toBe(String(server.pid));
    const open = () => readdirSync(`/proc/${server.pid}/fd`).map(Number);
    await expect.poll(() => open().filter((fd) => fd === 3 || fd === 4)).toEqual([]);
    await expect.poll(() => open().length).toBeLessThan(12);
    expect(readFileSync(`/proc/${server.pid}/environ`, 'utf8')).not.toContain('HOME');
  });

  it('has room for all descriptors that may come, before it serves: the kernel makes more while a freeze waits', async () => {
    const chain = await ServedChain.create();
    const server = await chain.serve();
    const room = async () => Number(/^FDSize:\s+(\d+)$/m.exec(readFileSync(`/proc/${await workerOf(server)}/status`, 'utf8'))?.[1]);
    expect(await room()).toBeGreaterThanOrEqual(512 + 2 * 127);
    process.kill(await workerOf(server), 'SIGKILL');
    expect((await chain.control().status()).counters.workers).toBe(2);
    expect(await room()).toBeGreaterThanOrEqual(512 + 2 * 127);
  });

  it('is not ended by signals that are meant for many', async () => {
    const server = await (await ServedChain.create()).serve();
    const worker = await workerOf(server);
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGQUIT', 'SIGPIPE'] as const) {
      for (const pid of [server.pid, worker]) process.kill(pid, signal);
    }
    await sleep(50);
    await touch(server.loop.path);
    expect(await workerOf(server)).toBe(worker);
  });

  it('lives in cgroups of its own', async () => {
    const cgroups = new ContainerCgroups(`loopbox/served-${process.pid}`);
    cleanUp(() => cgroups.remove());
    const began = performance.now();
    const server = await (await ServedChain.create()).serve({ moveToCgroup: (pid) => cgroups.moveToServer(pid) });
    console.log(`with cgroups: ${(performance.now() - began).toFixed(1)} ms`);
    for (const pid of [server.pid, await workerOf(server)]) {
      const places = readFileSync(`/proc/${pid}/cgroup`, 'utf8').trim().split('\n');
      expect(places.every((line) => line.endsWith(`:/${cgroups.parent}/server`))).toBe(true);
    }
    await server.loop.close();
    await cgroups.remove();
    expect(await hasEndedWithin(identity(server), goneWithinMs)).toBe(true);
  });
});

describe('a worker that is killed', () => {
  it.each([1, 16, 128])('is replaced without an error while fio writes and verifies at depth %i', async (depth) => {
    const chain = await ServedChain.create({ deltas: 1 });
    const server = await chain.serve();
    const done = new AbortController();
    const workers = killAgainAndAgain(chain, server, done.signal);
    const result = await fio(
      server.loop.path,
      '--rw=randrw',
      '--bs=4k',
      '--size=48m',
      `--iodepth=${depth}`,
      '--time_based',
      '--runtime=4',
      '--verify_backlog=512',
    );
    done.abort();
    expect(result.stderr + (result.code === 0 ? '' : result.stdout)).toBe('');
    const killed = await workers;
    expect(killed).toBeGreaterThan(10);
    const { worker, keeper, counters } = await chain.control().status();
    expect(keeper).toBe(server.pid);
    expect(worker).toBe(await workerOf(server));
    // One that was killed before it counted itself is not among them.
    expect(counters.workers).toBeLessThanOrEqual(killed + 1);
    expect(counters.workers).toBeGreaterThan(killed / 2);
  });

  it('loses nothing of a file system in use', async () => {
    const chain = await ServedChain.create({ deltas: 1 });
    const server = await chain.serve();
    const mount = await mountServed(server.loop);
    const done = new AbortController();
    const workers = killAgainAndAgain(chain, server, done.signal);
    for (let round = 0; round < 20; round++) {
      await writeFile(join(mount, `file-${round}`), Buffer.alloc(MiB, round));
      await shell('sync', '-f', mount);
    }
    done.abort();
    await workers;
    await shell('umount', mount);
    await shell('e2fsck', '-fn', server.loop.path);
    await server.loop.close();
    const { loop } = await chain.serve();
    const again = await mountServed(loop);
    for (let round = 0; round < 20; round++) {
      expect((await readFile(join(again, `file-${round}`))).equals(Buffer.alloc(MiB, round))).toBe(true);
    }
  });

  it('at once, each time, is given up: an error instead of a hang', async () => {
    const chain = await ServedChain.create();
    const server = await chain.serve();
    while (!(await hasEndedWithin(identity(server), 0))) {
      for (const worker of childrenOf(server.pid)) sendKill(worker);
      await sleep(1);
    }
    await expect(touch(server.loop.path)).rejects.toThrow('Input/output error');
    expect(await chain.log()).toContain('there will be no other');
  });
});

describe('a keeper that is killed', () => {
  it.each(['alone', 'with its worker'])('%s leaves a disk that fails at once, and nothing else', async (how) => {
    const chain = await ServedChain.create();
    const server = await chain.serve();
    const mount = await mountServed(server.loop);
    const worker = await workerOf(server);
    const writing = spawn('dd', ['if=/dev/zero', `of=${mount}/file`, 'bs=64k', 'oflag=direct'], { stdio: 'ignore' });
    await sleep(100);
    const victims = how === 'alone' ? [server.pid] : [worker, server.pid];
    const exited = once(writing, 'exit').then(([code]) => code as number);
    const workerIdentity = { pid: worker, start: readProcess(worker)?.start ?? 0 };
    for (const pid of victims) process.kill(pid, 'SIGKILL');
    expect(await hasEndedWithin(workerIdentity, 5000)).toBe(true);
    expect(await Promise.race([exited, sleep(20_000)])).toBe(1);
    await expect(touch(server.loop.path)).rejects.toThrow('Input/output error');
    await shell('umount', mount);
    await server.loop.close();
    // What was written so far is whole.
    const { loop } = await chain.serve();
    await shell('umount', await mountServed(loop));
    await shell('e2fsck', '-fn', loop.path);
  });
});

describe('the guard', () => {
  it('keeps stock tools from mounting an image that is served, and goes when it is told to', async () => {
    const chain = await ServedChain.create({ deltas: 0 });
    const files = await chain.open();
    const guard = await attachGuard({ fd: files.layers[0]?.fd ?? -1, label: 'base.img', sizeBytes: chain.sizeBytes });
    const server = await chain.serve({ layers: files.layers, guardFd: guard.fd });
    await guard.close();
    await files.close();
    // A manifest behind the file system.
    await using file = await open(chain.imagePath, 'r+');
    await file.truncate(chain.sizeBytes + 64 * KiB);

    const target = join(chain.directory, 'mount');
    await mkdir(target);
    const refused = await execute('mount', ['-o', 'loop', chain.imagePath, target]);
    expect(refused.code).not.toBe(0);
    expect(refused.stderr).toContain('overlapping loop device');
    await touch(server.loop.path);

    await chain.control().unguard();
    await chain.control().unguard();
    await expect.poll(() => readLoop(guard.index)?.diskSequence).not.toBe(guard.diskSequence);
    await shell('mount', '-o', 'loop,ro,noload', chain.imagePath, target);
    await shell('umount', target);
  });

  it('goes with the server', async () => {
    const chain = await ServedChain.create({ deltas: 0 });
    const files = await chain.open();
    const guard = await attachGuard({ fd: files.layers[0]?.fd ?? -1, label: 'base.img', sizeBytes: chain.sizeBytes });
    const server = await chain.serve({ layers: files.layers, guardFd: guard.fd });
    await guard.close();
    await files.close();
    for (const pid of [await workerOf(server), server.pid]) process.kill(pid, 'SIGKILL');
    await server.loop.close();
    await expect.poll(() => readLoop(guard.index)?.diskSequence === guard.diskSequence, { timeout: goneWithinMs }).toBe(false);
  });
});

/** Kills the worker every 100 ms or so, once it serves: the keeper gives up where that takes long and they die of it again and again. Returns how many. */
async function killAgainAndAgain(chain: ServedChain, server: StackServer, signal: AbortSignal): Promise<number> {
  const random = seededRandom();
  let killed = 0;
  for (;;) {
    await chain.control().status();
    await sleep(60 + random.below(100));
    if (signal.aborted) return killed;
    if (sendKill(await workerOf(server))) killed++;
  }
}
