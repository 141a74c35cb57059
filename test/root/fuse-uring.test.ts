import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { requireTransport } from '../../src/loop/transports';
import { MiB } from '../../src/units';
import { execute, shell } from '../fixtures';
import { childrenOf, hasEndedWithin, mountServed, ServedChain } from '../served-chain';
import { hasUring, withUringSwitch } from '../uring-switch';
import { kill } from '../victims';

const transport = 'fuse-uring';

async function serve(chain: ServedChain) {
  const server = await chain.serve({ transport });
  const [worker = 0] = childrenOf(server.pid);
  return { ...server, worker, identity: { pid: server.pid, start: server.pidStart } };
}

function fio(device: string, ...args: string[]) {
  const common = [
    '--direct=1',
    '--verify=crc32c',
    '--verify_state_save=0',
    '--verify_fatal=1',
    '--output-format=terse',
    '--ioengine=libaio',
  ];
  return execute('fio', ['--name=verify', `--filename=${device}`, ...common, ...args], { timeoutMs: 300_000 });
}

describe.skipIf(!hasUring)('a chain that is served over io_uring', () => {
  it.each([
    [1, '4k', '8m'],
    [16, '4k', '16m'],
    [128, '4k', '48m'],
    [8, '1m', '48m'],
  ])('reads back what fio writes at depth %i in blocks of %s', async (depth, block, size) => {
    const { loop } = await serve(await ServedChain.create({ deltas: 1 }));
    const result = await fio(loop.path, '--rw=randrw', `--bs=${block}`, `--size=${size}`, `--iodepth=${depth}`, '--verify_backlog=64');
    expect(result.stderr + (result.code === 0 ? '' : result.stdout)).toBe('');
  });

  it('gives back memory when it is idle, and nothing of what it was asked meanwhile', async () => {
    const server = await serve(await ServedChain.create({ deltas: 1 }));
    const statusOf = async (name: string) =>
      Number(new RegExp(`${name}:\\s+(\\d+)`).exec(await readFile(`/proc/${server.worker}/status`, 'utf8'))?.[1]);
    await fio(server.loop.path, '--rw=randwrite', '--bs=1m', '--size=48m', '--iodepth=64');
    // What it had at most: fio takes its time to end.
    expect(await statusOf('VmHWM')).toBeGreaterThan(8192);
    await expect.poll(() => statusOf('VmRSS')).toBeLessThan(7168);
    const slow = fio(
      server.loop.path,
      '--rw=randrw',
      '--bs=64k',
      '--size=48m',
      '--iodepth=4',
      '--thinktime=1100ms',
      '--thinktime_blocks=64',
      '--io_size=16m',
      '--do_verify=1',
    );
    expect((await slow).code).toBe(0);
  });

  it('is not there where the kernel does not offer it, and says what would help', async () => {
    const chain = await ServedChain.create();
    const refused = withUringSwitch('N', async () => requireTransport(transport));
    await expect(refused).rejects.toMatchObject({
      code: 'ERR_LOOPBOX_NOT_SUPPORTED',
      hint: 'echo Y > /sys/module/fuse/parameters/enable_uring',
    });
    expect(chain.remains()).toEqual([]);
  });
});

describe.skipIf(!hasUring)('a worker over io_uring that is killed', () => {
  it.each([1, 32])('ends the server: what waits at depth %i gets an error at once, and what was synced is there', async (depth) => {
    const chain = await ServedChain.create({ deltas: 1 });
    const server = await serve(chain);
    const mount = await mountServed(server.loop);
    await writeFile(join(mount, 'kept'), Buffer.alloc(MiB, 'kept'));
    await shell('sync', '-f', mount);
    const writing = spawn(
      'fio',
      [
        '--name=w',
        `--filename=${mount}/file`,
        '--rw=randrw',
        '--bs=4k',
        '--size=24m',
        '--direct=1',
        '--ioengine=libaio',
        `--iodepth=${depth}`,
        '--time_based',
        '--runtime=60',
      ],
      { stdio: 'ignore' },
    );
    await sleep(500);
    const exited = once(writing, 'exit');
    await kill(server.worker);
    const [code] = await Promise.race([exited, sleep(20_000).then(() => ['it hangs'])]);
    expect(code).toBe(1);
    expect(await hasEndedWithin(server.identity, 20_000)).toBe(true);
    expect(await chain.log()).toContain('there will be no other');
    await shell('umount', mount);
    await server.loop.close();

    const again = await serve(chain);
    const second = await mountServed(again.loop);
    expect((await readFile(join(second, 'kept'))).equals(Buffer.alloc(MiB, 'kept'))).toBe(true);
    await shell('umount', second);
    await shell('e2fsck', '-fn', again.loop.path);
  });
});
