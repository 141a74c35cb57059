import { rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeEach, describe, expect, it } from 'vitest';
import { StackControl } from '../../src/loop/stack-control';
import { Store } from '../../src/container/store';
import { readProcess } from '../../src/runtime/processes';
import { cleanUp, shell, smallFileSystem, temporaryDirectory, TestStore } from '../fixtures';
import { sleep } from '../sleeper';
import { hasUring, withUringSwitch } from '../uring-switch';
import { kill } from '../victims';
import { MiB } from '../../src/units';

// Nothing here calls sync(2): it waits for every file system of the host, and so for each one that a test has held.

async function storeOnStack(directory?: string): Promise<TestStore> {
  const store = await TestStore.create(directory, directory && (await temporaryDirectory()));
  await store.importBusybox('busybox', '--size', '256M');
  await store.createBusybox('box', '--full', '--attach', 'stack', '--start', ...sleep);
  return store;
}

function control(store: TestStore, name: string): StackControl {
  const { runRoot, root } = store;
  return new StackControl(new Store({ root, runRoot }).runDirectory(name).controlPath, name);
}

const state = async (store: TestStore) => {
  const { state: word, reason = '' } = await store.inspect('box');
  return `${String(word)} ${String(reason)}`.trim();
};

describe('a container whose storage server', () => {
  let store: TestStore;

  beforeEach(async () => {
    store = await storeOnStack();
  });

  it('loses its worker writes and reads on', async () => {
    const before = await control(store, 'box').status();
    process.kill(before.worker, 'SIGKILL');
    await store.done('exec', 'box', 'sh', '-c', 'echo still here | dd of=/root/note conv=fsync 2>/dev/null; cat /root/note');
    const { worker, keeper } = await control(store, 'box').status();
    expect(worker).not.toBe(before.worker);
    expect(keeper).toBe(before.keeper);
  });

  it('is gone altogether is stopped, and says why', async () => {
    const { worker, keeper } = await control(store, 'box').status();
    await Promise.all([keeper, worker].map(kill));
    await expect.poll(() => state(store), { timeout: 5000 }).toBe('failed storage server lost');
    expect(await store.done('start', 'box')).toBe('box');
    await store.done('exec', 'box', 'sh', '-c', 'echo 1 | dd of=/root/after conv=fsync');
  });

  it('is ended by a stop leaves nothing of it, and its file is one that stock tools find sound', async () => {
    const { keeper } = await control(store, 'box').status();
    await store.done('exec', 'box', 'sh', '-c', 'echo kept > /root/note');
    await store.done('stop', '-t', '0', 'box');
    expect(readProcess(keeper)?.state ?? 'Z').toBe('Z');
    await shell('e2fsck', '-fn', store.imageOf('box'));
    expect(await shell('debugfs', '-R', 'cat /root/note', store.imageOf('box'))).toBe('kept');
  });
});

describe.skipIf(!hasUring)('a container whose requests are to come over io_uring', () => {
  let store: TestStore;

  beforeEach(async () => {
    store = await TestStore.create();
    await store.importBusybox('busybox', '--size', '256M');
    await store.createBusybox('box', '--full', '--attach', 'stack', ...sleep);
  });

  it('is not started where the kernel has that switched off', async () => {
    const refusal = { code: 15, stdout: '', stderr: expect.stringContaining('echo Y > /sys/module/fuse/parameters/enable_uring') };
    await withUringSwitch('N', async () => {
      expect(await store.loopbox(['start', 'box', '--transport', 'fuse-uring'])).toMatchObject(refusal);
      expect(await store.loopbox(['start', 'box'], { env: { LOOPBOX_TRANSPORT: 'fuse-uring' } })).toMatchObject(refusal);
    });
    expect((await store.loopbox(['start', 'box', '--transport', 'ublk'])).code).toBe(2);
    await store.done('start', 'box');
  });

  it('is stopped where a worker dies, says why, and starts again', async () => {
    await withUringSwitch('Y', () => store.done('--transport', 'fuse-uring', 'start', 'box'));
    await store.done('exec', 'box', 'sh', '-c', 'echo kept | dd of=/root/note conv=fsync 2>/dev/null');
    await store.done('snapshot', 'create', 'box@then');
    process.kill((await control(store, 'box').status()).worker, 'SIGKILL');
    await expect.poll(() => state(store), { timeout: 5000 }).toBe('failed storage server lost');
    await store.done('start', 'box');
    expect(await store.done('exec', 'box', 'cat', '/root/note')).toBe('kept');
  });
});

describe('a host without space', () => {
  let store: TestStore;
  let ballast: string;

  /** Less than what the server wants to have free before it lets held writes go on. */
  const fill = () => shell('sh', '-c', `head -c 1G /dev/zero > "${ballast}" 2>/dev/null; true`);

  beforeEach(async () => {
    const directory = await smallFileSystem(512 * MiB);
    ballast = join(directory, 'ballast');
    store = await storeOnStack(directory);
    cleanUp(() => rm(ballast, { force: true }));
    await fill();
    await store.done('exec', 'box', 'sh', '-c', 'dd if=/dev/zero of=/root/big bs=1M count=32 conv=fsync >/dev/null 2>&1 &');
  });

  const hostFull = async () => {
    await expect.poll(() => state(store)).toBe('running host full');
  };

  it('holds the writes of a container until there is some', async () => {
    await hostFull();
    await rm(ballast);
    await expect.poll(() => state(store)).toBe('running');
    // What was begun before goes on behind.
    await store.done('exec', 'box', 'timeout', '60', 'sh', '-c', 'until [ $(stat -c %s /root/big) = 33554432 ]; do sleep 0.1; done');
    await store.done('exec', 'box', 'sh', '-c', 'dd if=/dev/null of=/root/big conv=notrunc,fsync');
    await store.done('stop', '-t', '0', 'box');
    await shell('e2fsck', '-fn', store.imageOf('box'));
  });

  it('ends a stop with 14 within seconds; --drop-held gives the writes up, and the journal makes the file system whole', async () => {
    await hostFull();
    const begun = Date.now();
    const { code, stderr } = await store.loopbox(['stop', 'box']);
    expect(code).toBe(14);
    expect(stderr).toContain('hint: free space (loopbox df), or give up the writes that wait: loopbox stop --drop-held box');
    expect(Date.now() - begun).toBeLessThan(5000);

    expect(await store.done('stop', '-t', '0', '--drop-held', 'box')).toBe('box');
    await rm(ballast);
    await writeFile(ballast, '');
    await store.done('start', 'box');
    await store.done('exec', 'box', 'sh', '-c', 'echo 1 | dd of=/root/after conv=fsync');
    await store.done('stop', '-t', '0', 'box');
    await shell('e2fsck', '-fn', store.imageOf('box'));
  });
});
