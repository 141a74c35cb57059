import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, constants, existsSync, openSync, rmSync, writeFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { setImmediate as nextTurn, setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { Disk } from '../../src/container/disk';
import { LoopboxError } from '../../src/errors';
import { MiB } from '../../src/units';
import { cleanUp, seededRandom, shell, soakCount } from '../fixtures';
import { attachedLoops } from '../loop-devices';
import { goneWithinMs, ServedChain, workerOf } from '../served-chain';

describe('a storage server that is being started', () => {
  it('leaves nothing where it can not start', async () => {
    const chain = await ServedChain.create();
    await expect(chain.serve({ logPath: '/nonexistent/log' })).rejects.toThrow(/"\/nonexistent\/log": No such file/);
    await expect(chain.serve({ controlPath: '/nonexistent/control' })).rejects.toThrow(LoopboxError);
    await expect(chain.serve({ sizeBytes: 63 * MiB })).rejects.toThrow(LoopboxError);
    const refusal = new Error('no cgroup');
    const moveToCgroup = () => {
      throw refusal;
    };
    await expect(chain.serve({ moveToCgroup })).rejects.toBe(refusal);
    await expect.poll(() => chain.remains()).toEqual([]);
  });

  it('says so where it is killed before its device is attached', async () => {
    const chain = await ServedChain.create();
    const killed: Promise<void>[] = [];
    const moveToCgroup = async (pid: number) => {
      const letGo = await holdFileThreads(chain.directory);
      // Its starter can't open the server's file before it lets go.
      const kill = async () => {
        await workerOf({ pid });
        await sleep(100);
        process.kill(pid, 'SIGKILL');
        await expect.poll(() => existsSync(`/proc/${pid}/fd/0`)).toBe(false);
        letGo();
      };
      killed.push(kill());
    };
    await expect(chain.serve({ moveToCgroup })).rejects.toMatchObject({ code: 'ERR_LOOPBOX_FAILED', message: /ended too early/ });
    await Promise.all(killed);
    await expect.poll(() => chain.remains()).toEqual([]);
  });

  it('says so where it is killed once its device is attached, at once', async () => {
    const chain = await ServedChain.create();
    const files = await chain.open();
    cleanUp(files.close);
    const { label, controlPath, logPath, sizeBytes } = chain;
    const isAttached = () => attachedLoops().some(({ backingFile }) => backingFile === `/${label}`);
    for (let hits = 0; hits < 3; ) {
      let killed: Promise<void> | undefined;
      const moveToCgroup = (pid: number) => {
        killed = (async () => {
          while (!isAttached()) await nextTurn();
          process.kill(pid, 'SIGKILL');
        })();
      };
      const options = { label, controlPath, logPath, sizeBytes, layers: files.layers, moveToCgroup, warn: () => {} };
      const outcome = await Disk.serve(options).catch((error: unknown) => error);
      await killed;
      // Or else the mount was faster.
      if (outcome instanceof Disk) await outcome.close();
      else
        expect(outcome).toMatchObject({ code: 'ERR_LOOPBOX_FAILED', message: expect.stringMatching(/storage server.* ended too early/) });
      if (!(outcome instanceof Disk)) hits++;
      await expect.poll(() => chain.remains().filter((name) => name !== 'control')).toEqual([]);
      rmSync(controlPath, { force: true });
    }
  });

  it('ends with a starter that is killed before the device is mounted', async () => {
    const chain = await ServedChain.create();
    const random = seededRandom();
    for (let round = 0; round < soakCount(100); round++) {
      const child = starter(chain);
      if (round % 2) await once(child.stdout ?? child, 'data');
      await sleep(random.below(round % 2 ? 5 : 120));
      child.kill('SIGKILL');
      await once(child, 'close');
      await expect.poll(() => chain.remains(), { timeout: goneWithinMs }).toEqual([]);
    }
  });
});

/** Keeps all threads busy that this process opens files with, until the returned function is called. */
async function holdFileThreads(directory: string): Promise<() => void> {
  const fifo = join(directory, 'fifo');
  await shell('mkfifo', fifo);
  for (let thread = 0; thread < 4; thread++) void open(fifo).then((file) => file.close());
  return () => closeSync(openSync(fifo, constants.O_WRONLY));
}

/** A process that starts a server on the chain, says so, and holds the device. */
function starter(chain: ServedChain): ChildProcess {
  const script = join(dirname(chain.imagePath), 'starter.cjs');
  const options = {
    label: chain.label,
    paths: chain.paths,
    sizeBytes: chain.sizeBytes,
    ...chain.geometry(),
    control: chain.controlPath,
    log: chain.logPath,
  };
  writeFileSync(script, `require(${JSON.stringify(join(import.meta.dirname, 'serve-chain.cjs'))})(${JSON.stringify(options)});`);
  const child = spawn(process.execPath, [script], { stdio: ['ignore', 'pipe', 'inherit'] });
  cleanUp(() => void child.kill('SIGKILL'));
  return child;
}
