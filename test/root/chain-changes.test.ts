import { closeSync, constants, fstatSync, openSync, readdirSync } from 'node:fs';
import { open, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { LoopboxError } from '../../src/errors';
import type { SwitchRequest } from '../../src/loop/stack-control';
import type { StackServer } from '../../src/loop/stack-server';
import { native } from '../../src/native';
import { KiB } from '../../src/units';
import { seededRandom, shell, soakCount } from '../fixtures';
import { namedChain, patternAt, writePattern } from '../named-chain';
import { childrenOf, hasEndedWithin, mountServed, openFilesOf, type ServedChain } from '../served-chain';
import { transportsHere } from '../uring-switch';
import { sendKill } from '../victims';

/** What a snapshot asks for: a prepared top `NAME.next`, and the names that change. */
async function prepareSwitch(chain: ServedChain, kept: string): Promise<SwitchRequest & { close: () => void }> {
  const nextFd = openSync(await chain.makeDelta('disk.next'), constants.O_RDWR | constants.O_DIRECT);
  const directoryFd = openSync(chain.directory, constants.O_RDONLY | constants.O_DIRECTORY);
  const names = { old: 'disk.delta', kept, next: 'disk.next', top: 'disk.delta' };
  const close = () => [nextFd, directoryFd].forEach(closeSync);
  return { nextFd, directoryFd, names, ...chain.geometry(), ownedEnd: chain.sizeBytes / (4 * KiB), close };
}

describe.each(transportsHere)('a switch to a new top, by %s,', (transport) => {
  it('renames the files, and sends what is written from then on to the new one', async () => {
    const chain = await namedChain();
    const server = await chain.serve({ transport });
    await writePattern(server, 100, 1);
    const control = chain.control();
    for (const [index, kept] of ['disk@a.delta', 'disk@b.delta', 'disk@c.delta'].entries()) {
      const request = await prepareSwitch(chain, kept);
      const top = await control.switchTop(request);
      const status = await control.status();
      expect(status.top).toBe(top);
      expect(status.layers.at(-1)?.inode).toBe(fstatSync(request.nextFd, { bigint: true }).ino);
      request.close();
      await writePattern(server, 100, index + 2);
    }
    expect(
      readdirSync(chain.directory)
        .filter((name) => name.startsWith('disk'))
        .sort(),
    ).toEqual(['disk.delta', 'disk@a.delta', 'disk@b.delta', 'disk@c.delta']);
    expect(await patternAt(server, 100)).toBe(4);
    // Each file has what was written while it was the top.
    const { dataOffset } = chain.geometry();
    for (const [index, name] of ['disk@a.delta', 'disk@b.delta', 'disk@c.delta', 'disk.delta'].entries()) {
      await using file = await open(join(chain.directory, name), 'r');
      const { buffer } = await file.read(Buffer.alloc(1), 0, 1, dataOffset + 100 * 4 * KiB);
      expect(buffer[0]).toBe(index + 1);
    }
    // The keeper holds each of the five files once, and no directory.
    const held = () => openFilesOf(server.pid).filter((target) => target.startsWith(chain.directory) && target !== chain.logPath);
    await expect.poll(held).toHaveLength(5);
  });

  it('is refused where a name is taken or missing, with all as before', async () => {
    const chain = await namedChain();
    const server = await chain.serve({ transport });
    const request = await prepareSwitch(chain, 'disk@a.delta');
    await writeFile(join(chain.directory, 'disk@a.delta'), '');
    await expect(chain.control().switchTop(request)).rejects.toThrow(expect.objectContaining({ code: 'ERR_LOOPBOX_EXISTS' }));
    await rm(join(chain.directory, 'disk@a.delta'));
    const missing = { ...request, names: { ...request.names, next: 'other.next' } };
    await expect(chain.control().switchTop(missing)).rejects.toThrow(LoopboxError);
    expect(
      readdirSync(chain.directory)
        .filter((name) => name.startsWith('disk'))
        .sort(),
    ).toEqual(['disk.delta', 'disk.next']);
    await writePattern(server, 7, 7);
    expect(await patternAt(server, 7)).toBe(7);
    await chain.control().switchTop(request);
    request.close();
    expect(await patternAt(server, 7)).toBe(7);
  });

  const areKilled = transport === 'fuse';
  it(`comes through, once, while files are written${areKilled ? ' and workers are killed at any moment of it' : ''}`, async () => {
    const chain = await namedChain();
    const server = await chain.serve({ transport });
    const mount = await mountServed(server.loop);
    const random = seededRandom();
    const writing = new AbortController();
    const written = writeFiles(mount, writing.signal);
    // A chain has 127 files at most.
    const rounds = Math.min(120, soakCount(300));
    for (let round = 0; round < rounds; round++) {
      const request = await prepareSwitch(chain, `disk@${round}.delta`);
      const [top] = await Promise.all([chain.control().switchTop(request), areKilled ? killSoon(server, random.below(15)) : undefined]);
      request.close();
      expect((await chain.control().status()).top).toBe(top);
      // Faster, and the keeper would give up.
      if (areKilled) await sleep(80);
    }
    writing.abort();
    const count = await written;
    const { layers, counters } = await chain.control().status();
    expect(layers).toHaveLength(rounds + 2);
    console.log(`${counters.workers} workers, ${count} files`);
    await shell('umount', mount);
    await shell('e2fsck', '-fn', server.loop.path);
    const again = await mountServed(server.loop);
    for (let file = 0; file < count; file++) expect(await readFile(join(again, String(file)), 'utf8')).toBe(`${file}`.repeat(5000));
  });
});

describe.each(transportsHere)('other requests, by %s,', (transport) => {
  it('flush, absorb into the live top, and drop what is then needless', async () => {
    const chain = await namedChain();
    const server = await chain.serve({ transport });
    const control = chain.control();
    await writePattern(server, 5, 5);
    await writePattern(server, 6, 6);
    const request = await prepareSwitch(chain, 'disk@a.delta');
    await control.switchTop(request);
    request.close();
    await writePattern(server, 6, 60);
    const { layers, top } = await control.status();
    const source = layers.at(-2)?.slot ?? -1;
    await expect(control.drop(source)).rejects.toThrow(expect.objectContaining({ cause: expect.objectContaining({ code: 'EBUSY' }) }));
    let next: number | undefined = 0;
    while (next !== undefined) next = await control.absorb(source, next);
    // What was below is needless, and goes, because the top's file says so; not the server's memory alone.
    await using file = await open(join(chain.directory, 'disk.delta'), 'r');
    const map = await file.read(Buffer.alloc(1), 0, 1, chain.geometry().mapOffset);
    expect(map.buffer[0]).toBe(0b110_0000);
    await control.drop(source);
    await control.flush();
    expect((await control.status()).layers.map(({ slot }) => slot)).toEqual([layers[0]?.slot, top]);
    expect([await patternAt(server, 5), await patternAt(server, 6)]).toEqual([5, 60]);
    await expect.poll(() => openFilesOf(server.pid).filter((target) => target.endsWith('disk@a.delta'))).toEqual([]);
  });

  it('absorb a layer that is shorter than the one below it: what that has behind its end is not seen, then as before', async () => {
    const chain = await namedChain();
    const short = chain.sizeBytes / 2;
    const hidden = (chain.sizeBytes * 3) / 4 / (4 * KiB);
    await using image = await open(chain.imagePath, 'r+');
    await image.write(Buffer.alloc(4 * KiB, 7), 0, 4 * KiB, hidden * 4 * KiB);
    chain.paths.splice(1, 0, await chain.makeDelta('disk@a.delta'));
    const files = await chain.open();
    const layers = files.layers.map((layer, index) => (index === 1 ? { ...layer, sizeBytes: short } : layer));
    const server = await chain.serve({ layers, transport });
    expect(await patternAt(server, hidden)).toBe(0);
    const control = chain.control();
    const slot = (await control.status()).layers[1]?.slot ?? -1;
    let next: number | undefined = 0;
    while (next !== undefined) next = await control.absorb(slot, next);
    await control.drop(slot);
    expect(await patternAt(server, hidden)).toBe(0);
    await server.loop.close();
    expect(await hasEndedWithin({ pid: server.pid, start: server.pidStart }, 20_000)).toBe(true);
    await files.close();
    chain.paths.splice(1, 1);
    expect(await patternAt(await chain.serve({ transport }), hidden)).toBe(0);
  });

  it('grow the disk, up to 8 times, also where workers die over it; what is written behind the old end is there when it is attached again', async () => {
    const chain = await namedChain();
    const server = await chain.serve({ transport });
    const random = seededRandom();
    const blockOf = (bytes: number) => bytes / (4 * KiB);
    const written = new Map<number, number>();
    let sizeBytes = chain.sizeBytes;
    for (let step = 1; step < 8; step++) {
      const end = blockOf(sizeBytes);
      sizeBytes += chain.sizeBytes;
      await shell('truncate', '-s', String(chain.geometry().dataOffset + sizeBytes), join(chain.directory, 'disk.delta'));
      // As a switch: with the other transport a worker's death is the end.
      const killed = transport === 'fuse' ? killSoon(server, random.below(8)) : undefined;
      await chain.control().grow(sizeBytes);
      await native().loopResize(server.loop.fd, sizeBytes);
      for (const block of [end, end + 1 + random.below(1000), blockOf(sizeBytes) - 1]) {
        await writePattern(server, block, step);
        written.set(block, step);
      }
      await killed;
      // Faster, and the keeper would give up.
      await sleep(60);
    }
    const tooLarge = chain.control().grow(sizeBytes + 4 * KiB);
    await expect(tooLarge).rejects.toThrow(expect.objectContaining({ cause: expect.objectContaining({ code: 'EFBIG' }) }));
    expect((await chain.control().status()).sizeBytes).toBe(sizeBytes);
    const expectAll = async (attached: StackServer) => {
      for (const [block, value] of written) expect([block, await patternAt(attached, block)]).toEqual([block, value]);
      expect(await patternAt(attached, blockOf(sizeBytes) - 2)).toBe(0);
    };
    await expectAll(server);
    await server.loop.close();
    expect(await hasEndedWithin({ pid: server.pid, start: server.pidStart }, 20_000)).toBe(true);
    const files = await chain.open();
    const layers = files.layers.map((layer) => (layer.kind === 'delta' ? { ...layer, sizeBytes } : layer));
    await expectAll(await chain.serve({ layers, sizeBytes, transport }));
    await files.close();
  });
});

async function killSoon(server: StackServer, delayMs: number): Promise<void> {
  await sleep(delayMs);
  childrenOf(server.pid).forEach(sendKill);
}

/** Writes files, one after the other, each synced; returns how many. */
async function writeFiles(directory: string, signal: AbortSignal): Promise<number> {
  for (let count = 0; ; count++) {
    if (signal.aborted) return count;
    await using file = await open(join(directory, String(count)), 'w');
    await file.writeFile(`${count}`.repeat(5000));
    await file.sync();
  }
}
