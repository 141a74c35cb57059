import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { beforeEach, describe, expect, it } from 'vitest';
import { settleSteps } from '../../src/image/settle';
import { KiB } from '../../src/units';
import { contentOfState } from '../chain-view';
import { chainedContainer } from '../chained-container';
import { cleanUp, execute, seededRandom, shell, soakCount, type TestStore, temporaryDirectory } from '../fixtures';
import { contentOf } from '../image-view';
import { attachedLoops } from '../loop-devices';
import { processesOf } from '../remains';
import { mergeContext } from '../root/chain-world';
import { containerFiles, expectTruth } from '../truth';
import { kill } from '../victims';

const minute = 60_000;
let store: TestStore;
let states: Record<string, string>;

beforeEach(async () => {
  store = await chainedContainer();
  states = {};
  for (const name of ['web', 'web@mon', 'web@tue']) states[name] = await contentOfState(store, name);
});

async function place(): Promise<string> {
  const directory = join(await temporaryDirectory(), 'look');
  await mkdir(directory);
  cleanUp(async () => void (await execute('umount', [directory])));
  return directory;
}

async function mounted(snapshot: string): Promise<string> {
  const directory = await place();
  expect(await store.done('snapshot', 'mount', snapshot, directory)).toBe('');
  return directory;
}

/** What there is of mounts of this store's snapshots, but for the mount. */
function remains(): string[] {
  const sockets = (existsSync(store.runRoot) ? readdirSync(store.runRoot) : []).filter((name) => name.startsWith('.mount-'));
  const devices = attachedLoops().filter(({ backingFile }) => backingFile.startsWith('/web@'));
  return [...sockets, ...devices.map(({ index }) => `loop${index}`), ...processesOf(store).map(({ pid, name }) => `${name} ${pid}`)];
}

describe('the mount of a snapshot that is a chain', () => {
  it('is the snapshot, read-only; plain umount leaves nothing, and no caller takes it along', async () => {
    const before = containerFiles(store);
    const directory = await mounted('web@tue');
    expect(await contentOf(directory)).toBe(states['web@tue']);
    expect((await execute('touch', [join(directory, 'root/file')])).stderr).toContain('Read-only');
    expect(await shell('findmnt', '-n', '-o', 'OPTIONS', directory)).toMatch(/^ro,nosuid,nodev,/);
    expect(containerFiles(store)).toEqual(before);
    await expect.poll(() => remains().filter((name) => name.startsWith('.mount-'))).toEqual([]);
    const namesOfServers = () =>
      processesOf(store)
        .map(({ name }) => name)
        .sort();
    await expect.poll(namesOfServers).toEqual(['loopbox-keeper', 'loopbox-worker']);
    const servers = processesOf(store);
    for (const { pid } of servers) {
      const cgroups = readFileSync(`/proc/${pid}/cgroup`, 'utf8').trim().split('\n');
      expect(cgroups.filter((line) => !line.endsWith(':/'))).toEqual([]);
      expect(readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.split(' ')[3]).toBe(String(servers[0]?.pid));
    }
    await shell('umount', directory);
    await expect.poll(remains).toEqual([]);
    await expectTruth(store, states);
  });

  it('survives its worker', async () => {
    const directory = await mounted('web@tue');
    const worker = processesOf(store).find(({ name }) => name === 'loopbox-worker');
    await kill(worker?.pid ?? 0);
    expect(await contentOf(directory)).toBe(states['web@tue']);
    await shell('umount', directory);
    await expect.poll(remains).toEqual([]);
  });

  it('shows the same while the container runs and what it stands on is removed and merged, which goes on or waits', async () => {
    await store.done('start', 'web');
    const tue = await mounted('web@tue');
    const mon = await mounted('web@mon');
    const look = async () => [await contentOf(tue), await contentOf(mon)];
    const exact = [states['web@tue'], states['web@mon']];
    expect(await look()).toEqual(exact);
    await store.done('exec', 'web', 'sh', '-c', 'head -c 3000000 /dev/urandom | dd of=/root/live bs=64k conv=fsync 2>/dev/null');
    const live = await store.done('exec', 'web', 'md5sum', '/root/live');

    await store.done('snapshot', 'rm', '--wait', 'web@tue');
    await shell('sh', '-c', 'echo 1 > /proc/sys/vm/drop_caches');
    expect(await look()).toEqual(exact);
    expect(containerFiles(store).filter((name) => name.endsWith('.delta'))).toEqual(['web.delta']);
    await store.done('snapshot', 'rm', '--wait', 'web@mon');
    expect(await look()).toEqual(exact);
    await store.done('stop', '-t', '0', 'web');
    expect((await store.loopbox(['settle', 'web'])).stderr).toMatch(/still to be merged: .*is open elsewhere/);
    expect(await look()).toEqual(exact);

    for (const directory of [tue, mon]) await shell('umount', directory);
    await expect.poll(remains).toEqual([]);
    await store.done('settle', 'web');
    expect(containerFiles(store)).toEqual(['web.img']);
    await store.done('start', 'web');
    expect(await store.done('exec', 'web', 'md5sum', '/root/live')).toBe(live);
  });

  it('is of what it stands on while that is folded into: the fold waits, and goes on after the umount', async () => {
    const context = mergeContext(join(store.root, 'containers'), { batchBytes: 64 * KiB });
    for await (const step of settleSteps(context, new Map())) if (step === 'the cursor has moved') break;
    expect(containerFiles(store)).toContainEqual(expect.stringMatching(/\.fold$/));
    const directories = [await mounted('web@mon'), await mounted('web@tue')];
    const look = async () => [await contentOf(directories[0] ?? ''), await contentOf(directories[1] ?? '')];
    expect(await look()).toEqual([states['web@mon'], states['web@tue']]);
    expect((await store.loopbox(['settle', 'web'])).code).toBe(0);
    expect(await look()).toEqual([states['web@mon'], states['web@tue']]);
    for (const directory of directories) await shell('umount', directory);
    await expect.poll(remains).toEqual([]);
    await store.done('settle', 'web');
    expect(containerFiles(store)).toEqual(['web.img', 'web@mon.delta', 'web@tue.delta']);
    await expectTruth(store, states);
  });

  it('is in no start’s way, also where the snapshot stands on a settled present', async () => {
    await store.done('settle', 'web');
    const directory = await mounted('web@mon');
    await store.done('start', 'web');
    await store.done('exec', 'web', 'sh', '-c', 'echo more | dd of=/root/more conv=fsync 2>/dev/null');
    expect(await contentOf(directory)).toBe(states['web@mon']);
    await store.done('stop', '-t', '0', 'web');
    await shell('umount', directory);
    await expect.poll(remains).toEqual([]);
    await store.done('settle', 'web');
    await expectTruth(store, { ...states, web: await contentOfState(store, 'web') });
  });

  it(
    'is killed at any moment: all of it is there, or nothing',
    async () => {
      const random = seededRandom();
      for (let round = 0; round < soakCount(60); round++) {
        const directory = await place();
        const abort = new AbortController();
        const delayMs = 40 + random.below(250);
        const mounting = store.loopbox(['snapshot', 'mount', 'web@tue', directory], { signal: abort.signal });
        await Promise.race([sleep(delayMs), mounting]);
        abort.abort();
        await mounting;
        // A mount(8) that the command had begun goes on.
        const isMounted = async () => (await execute('mountpoint', ['-q', directory])).code === 0;
        await expect.poll(async () => remains().length === 0 || (await isMounted()), { message: `killed after ${delayMs} ms` }).toBe(true);
        if (await isMounted()) {
          expect(await contentOf(directory)).toBe(states['web@tue']);
          await shell('umount', directory);
        }
        await expect.poll(remains, { message: `killed after ${delayMs} ms` }).toEqual([]);
      }
      await expectTruth(store, states);
    },
    5 * minute,
  );
});
