import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, closeSync, constants, fstatSync, openSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { mkdir, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { isSystemError } from '../../src/errors';
import { StackControl } from '../../src/loop/stack-control';
import type { StackServer } from '../../src/loop/stack-server';
import { native } from '../../src/native';
import { KiB, MiB } from '../../src/units';
import { cleanUp, execute, seededRandom, shell, soakCount, temporaryDirectory } from '../fixtures';
import { namedChain, patternAt, writePattern } from '../named-chain';
import { childrenOf, ServedChain } from '../served-chain';

function openDescriptors(): number {
  return readdirSync('/proc/self/fd').length;
}

/** How many descriptors keeper and worker have. */
function descriptorsOf(server: StackServer): number[] {
  return [server.pid, ...childrenOf(server.pid)].map((pid) => readdirSync(`/proc/${pid}/fd`).length);
}

/** Expects that they soon have no more than so many; a keeper that has just begun lets go of some by itself. */
async function expectNoMoreDescriptors(server: StackServer, before: number[]): Promise<void> {
  await expect.poll(() => descriptorsOf(server).filter((count, index) => count > (before[index] ?? 0))).toEqual([]);
}

/** The reply's first line, or the code that the call fails with. */
async function ask(path: string, request: string, fds: number[] = []): Promise<string> {
  try {
    const { reply, fds: received } = await native().controlCall(path, request, fds, 20_000);
    for (const fd of received) closeSync(fd);
    return reply.split('\n', 1)[0] ?? '';
  } catch (error) {
    if (isSystemError(error)) return error.code;
    throw error;
  }
}

describe('the control socket', () => {
  it('tells what is served', async () => {
    const chain = await ServedChain.create({ deltas: 3 });
    const server = await chain.serve();
    const status = await chain.control().status();
    expect(status).toMatchObject({ keeper: server.pid, sizeBytes: chain.sizeBytes, failed: false, held: false });
    expect(status.worker).toBe(childrenOf(server.pid)[0]);
    expect(status.layers.map(({ inode }) => inode)).toEqual(chain.paths.map((path) => fstatOf(path).ino));
    expect(status.layers.map(({ device }) => device)).toEqual(chain.paths.map((path) => fstatOf(path).dev));
    expect(status.layers.map(({ direct }) => direct)).toEqual([false, false, false, true]);
    expect(status.top).toBe(status.layers.at(-1)?.slot);
    expect(status.counters.workers).toBe(1);
  });

  it("hands out the layers' descriptors, close-on-exec", async () => {
    const chain = await ServedChain.create({ deltas: 3 });
    await chain.serve();
    const before = openDescriptors();
    const layers = await chain.control().layers();
    expect(layers.map(({ fd }) => readlinkSync(`/proc/self/fd/${fd}`))).toEqual(chain.paths);
    for (const { fd } of layers) {
      expect(readFileSync(`/proc/self/fdinfo/${fd}`, 'utf8')).toMatch(/^flags:\s+0[0-7]*2[0-7]{6}$/m);
      closeSync(fd);
    }
    await expect.poll(openDescriptors).toBe(before);
  });

  it('refuses what is no request, and serves on', async () => {
    const chain = await ServedChain.create();
    const server = await chain.serve();
    const path = chain.controlPath;
    const before = openDescriptors();
    expect(await ask(path, 'junk')).toMatch(/^error EINVAL /);
    expect(await ask(path, 'loopbox 2 status\n')).toMatch(/^error EPROTONOSUPPORT /);
    expect(await ask(path, 'loopbox 1 mount\n')).toMatch(/^error EOPNOTSUPP /);
    expect(await ask(path, 'x'.repeat(100 * KiB))).toMatch(/^error EMSGSIZE /);
    expect(await ask(path, 'loopbox 1 status\n', [0])).toMatch(/^error EINVAL /);
    expect(await ask(path, 'loopbox 1 status\n', Array<number>(200).fill(0))).toMatch(/^error EMSGSIZE /);
    expect(await ask(path, 'loopbox 1 drop\nslot=127\n')).toMatch(/^error ENOENT /);
    expect(await ask(path, 'loopbox 1 drop\nslot=1\n')).toMatch(/^error /);
    expect(await ask(path, 'loopbox 1 moved\nslot=1\ninto=0\nto=9223372036854775807\n')).toMatch(/^error /);
    expect(await ask(path, 'loopbox 1 absorb\nslot=0\nfrom=0\n')).toMatch(/^error /);
    expect(await ask(path, 'loopbox 1 grow\nsize=9223372036854775807\n')).toMatch(/^error /);
    expect(await ask(path, 'loopbox 1 grow\nsize=4096\n')).toMatch(/^error /);
    const names = 'old=a\nkept=b\nnext=c\ntop=d\nmap=1048576\ndata=2097152\nowned=1\n';
    const directory = openSync(chain.directory, constants.O_RDONLY);
    expect(await ask(path, `loopbox 1 switch\n${names}`, [directory, directory])).toMatch(/^error EINVAL /);
    closeSync(directory);
    const random = seededRandom();
    for (let round = 0; round < soakCount(2000); round++) {
      const bytes = Buffer.from(Array.from({ length: 1 + random.below(200) }, () => 1 + random.below(127)));
      expect(await ask(path, `${random.pick(['', 'loopbox ', 'loopbox 1 ', 'loopbox 1 switch\n'])}${bytes.toString('latin1')}`)).toMatch(
        /^error /,
      );
    }
    await expect.poll(openDescriptors).toBe(before);
    const { worker, counters } = await chain.control().status();
    expect([worker, counters.workers]).toEqual([childrenOf(server.pid)[0], 1]);
    await expect.poll(() => readdirSync(`/proc/${worker}/fd`).length).toBeLessThan(30);
  });

  it('takes no descriptors but those of a prepared top and its directory: nothing is renamed, nothing is kept', async () => {
    const chain = await namedChain();
    const server = await chain.serve();
    const { mapOffset, dataOffset } = chain.geometry();
    const next = await chain.makeDelta('disk.next');
    const [fifo, short] = [join(chain.directory, 'fifo'), join(chain.directory, 'short')];
    await shell('mkfifo', fifo);
    await writeFile(short, '');
    await truncate(short, dataOffset + chain.sizeBytes - 4 * KiB);
    const { O_RDONLY, O_RDWR, O_DIRECT, O_DIRECTORY } = constants;
    const place = 0o10000000; // O_PATH
    const fds = {
      top: openSync(next, O_RDWR | O_DIRECT),
      directory: openSync(chain.directory, O_RDONLY | O_DIRECTORY),
      buffered: openSync(next, O_RDWR),
      readOnly: openSync(next, O_RDONLY | O_DIRECT),
      short: openSync(short, O_RDWR | O_DIRECT),
      place: openSync(next, place),
      fifo: openSync(fifo, O_RDWR),
      null: openSync('/dev/null', O_RDWR),
      // What the server itself stands under.
      loop: openSync(server.loop.path, O_RDWR | O_DIRECT),
      directoryAsPlace: openSync(chain.directory, place | O_DIRECTORY),
      elsewhere: openSync('/', O_RDONLY | O_DIRECTORY),
    };
    const { top, directory, directoryAsPlace, elsewhere, ...others } = fds;
    const wrongPairs = [
      ...Object.values(others).flatMap((fd) => [
        [fd, directory],
        [top, fd],
      ]),
      [directory, top],
      [directory, directory],
      [top, top],
      [top, directoryAsPlace],
      [top, elsewhere],
    ];
    const names = 'old=disk.delta\nkept=disk@a.delta\nnext=disk.next\ntop=disk.delta\n';
    const before = { names: readdirSync(chain.directory).sort(), own: openDescriptors(), servers: descriptorsOf(server) };
    try {
      for (const pair of wrongPairs) {
        const request = `loopbox 1 switch\n${names}map=${mapOffset}\ndata=${dataOffset}\nowned=1\n`;
        expect(await ask(chain.controlPath, request, pair)).toMatch(/^error /);
        expect(readdirSync(chain.directory).sort()).toEqual(before.names);
      }
      for (const [map, data] of [
        [0, 4 * KiB],
        [1, dataOffset],
        [dataOffset, dataOffset],
        [2 ** 62, 2 ** 62 + MiB],
        [mapOffset, dataOffset + MiB],
      ]) {
        const request = `loopbox 1 switch\n${names}map=${map}\ndata=${data}\nowned=1\n`;
        expect(await ask(chain.controlPath, request, [top, directory])).toMatch(/^error EINVAL /);
      }
      for (const fd of [...Object.values(fds), ...Object.values(fds)]) {
        expect(await ask(chain.controlPath, 'loopbox 1 flush\n', [fd])).toMatch(/^error EINVAL /);
      }
    } finally {
      Object.values(fds).forEach(closeSync);
    }
    await expect.poll(openDescriptors).toBe(before.own - Object.values(fds).length);
    await expectNoMoreDescriptors(server, before.servers);
    await writePattern(server, 3, 3);
    expect(await patternAt(server, 3)).toBe(3);
    expect((await chain.control().status()).counters.workers).toBe(1);
  });

  it('bears any numbers in requests of any kind: the disk is as it was', async () => {
    const chain = await ServedChain.create({ deltas: 3 });
    const server = await chain.serve();
    await writePattern(server, 5, 5);
    const random = seededRandom();
    const number = () => random.pick([0, 1, 2, 3, 126, 127, 128, 255, 256, 65_536, 2 ** 31, 2 ** 32, 2 ** 52, '9223372036854775807']);
    const requests = [
      () => `absorb\nslot=${number()}\nfrom=${number()}\n`,
      () => `fold\nslot=${number()}\ninto=${random.pick([1, 2, 3, 127, 128])}\nto=${number()}\n`,
      () => `drop\nslot=${random.pick([0, 3, 4, 127, 128, 2 ** 32, 2 ** 52])}\n`,
      () => `grow\nsize=${random.pick([0, 1, 4096, chain.sizeBytes, chain.sizeBytes + 1, 2 ** 52, '9223372036854775807'])}\n`,
      () => random.pick(['flush\n', 'status\n', 'layers\n', 'unguard\n']),
    ];
    for (let round = 0; round < soakCount(3000); round++) {
      expect(await ask(chain.controlPath, `loopbox 1 ${random.pick(requests)()}`)).toMatch(/^(ok$|error )/);
    }
    const { counters, layers, sizeBytes } = await chain.control().status();
    expect([counters.workers, layers.length, sizeBytes]).toEqual([1, 4, chain.sizeBytes]);
    expect(await patternAt(server, 5)).toBe(5);
  });

  it('answers peers that say no more, and lets go of those that hear no more, or vanish with their request', async () => {
    const chain = await ServedChain.create();
    const server = await chain.serve();
    const before = descriptorsOf(server);
    const script = String.raw`import array,os,socket,sys
def connect():
  s=socket.socket(socket.AF_UNIX,socket.SOCK_SEQPACKET); s.connect(sys.argv[1]); return s
for i in range(50):
  s=connect(); s.send(b'loopbox 1 flush\n'); s.shutdown(socket.SHUT_WR); assert s.recv(100)==b'ok\n'; assert s.recv(100)==b''
  s=connect(); s.send(b'loopbox 1 flush\n'); s.shutdown(socket.SHUT_RD)
  s=connect(); s.shutdown(socket.SHUT_RDWR)
  s=connect(); s.send(b'loopbox 1 layers\n'); s.close()
  s=connect(); s.send(b''); s.close()
  s=connect()
  for one in (b'',b'loopbox 1 status\n'):
    r,w=os.pipe()
    try: s.sendmsg([one],[(socket.SOL_SOCKET,socket.SCM_RIGHTS,array.array('i',[r,w,s.fileno()]*84))])
    except OSError: pass
    os.close(r); os.close(w)
  s.close()
`;
    expect(await execute('/usr/bin/python3', ['-c', script, chain.controlPath])).toMatchObject({ code: 0, stderr: '' });
    await expectNoMoreDescriptors(server, before);
    expect((await chain.control().status()).counters.workers).toBe(1);
  });

  it('is for root alone, and bears peers that come in numbers, send nothing or take nothing', async () => {
    const chain = await ServedChain.create();
    const server = await chain.serve();
    const python = (script: string, ...prefix: string[]) => {
      const [program, ...args] = [...prefix, '/usr/bin/python3', '-c', `import socket,sys,time,os\n${script}`, chain.controlPath];
      return execute(program, args);
    };
    const connect = 's=socket.socket(socket.AF_UNIX,socket.SOCK_SEQPACKET); s.connect(sys.argv[1])';
    const asNobody = ['setpriv', '--reuid', '65534', '--clear-groups'];
    chmodSync(chain.directory, 0o755);
    expect((await python(connect, ...asNobody)).stderr).toContain('PermissionError');
    chmodSync(chain.controlPath, 0o666);
    const stranger = await python(
      `${connect}\ntry:\n s.send(b'loopbox 1 status\\n'); print(s.recv(100))\nexcept OSError as e: print(e)`,
      ...asNobody,
    );
    expect(stranger.stdout).toMatch(/b''|Broken pipe|reset/);

    const idle = spawn('/usr/bin/python3', [
      '-c',
      `import socket,sys,time\nall=[]\nfor i in range(100):\n ${connect}\n s.setblocking(False)\n all.append(s)\n try:\n  for j in range(50): s.send(b'loopbox 1 layers\\n')\n except OSError: pass\nprint('there',flush=True)\ntime.sleep(100)`,
      chain.controlPath,
    ]);
    cleanUp(() => void idle.kill('SIGKILL'));
    await once(idle.stdout, 'data');
    await writePattern(server, 0, 1);
    expect(await patternAt(server, 0)).toBe(1);
    idle.kill('SIGKILL');
    await expect.poll(() => ask(chain.controlPath, 'loopbox 1 status\n')).toBe('ok');
  });

  it('is found at a path of any length', async () => {
    const chain = await ServedChain.create();
    const deep = join(chain.directory, ...Array<string>(5).fill('d'.repeat(60)));
    await mkdir(deep, { recursive: true });
    await chain.serve({ controlPath: join(deep, 'control') });
    expect((await new StackControl(join(deep, 'control'), 'deep').status()).sizeBytes).toBe(chain.sizeBytes);
  });

  it('says that there is no server where there is none, and waits no longer than it is told', async () => {
    const directory = await temporaryDirectory();
    const control = new StackControl(join(directory, 'control'), 'none');
    await expect(control.status()).rejects.toThrow(expect.objectContaining({ code: 'ERR_LOOPBOX_WRONG_STATE' }));
    const chain = await ServedChain.create();
    await chain.serve();
    const { worker } = await chain.control().status();
    process.kill(worker, 'SIGSTOP');
    const began = performance.now();
    await expect(native().controlCall(chain.controlPath, 'loopbox 1 status\n', [], 300)).rejects.toMatchObject({ code: 'ETIMEDOUT' });
    expect(performance.now() - began).toBeLessThan(5000);
    process.kill(worker, 'SIGCONT');
  });
});

function fstatOf(path: string) {
  const fd = openSync(path, 'r');
  try {
    return fstatSync(fd, { bigint: true });
  } finally {
    closeSync(fd);
  }
}
