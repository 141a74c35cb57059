import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeEach, describe, expect, it } from 'vitest';
import { Store } from '../../src/container/store';
import { StackControl } from '../../src/loop/stack-control';
import { KiB, MiB } from '../../src/units';
import { changeDisk } from '../chain-view';
import { fileInDisk, withDisk } from '../disk-view';
import { type Failure, FailingDisk } from '../failing-disk';
import { execute, type ExecuteResult, shell, temporaryDirectory, type TestStore } from '../fixtures';
import { recordedProgram } from '../powercuts/recorded-program';
import { smallStore } from '../powercuts/world';
import { containerFiles } from '../truth';

const block = 4 * KiB;
/** Of the deltas of a disk of 16 MiB. */
const dataOffset = 2 * MiB;
const blocksOfFile = 64;
const sumOfNothing = createHash('md5').update('').digest('hex');
const inGuest = (index: number, file: string) => `dd if=${file} bs=4096 skip=${index} count=1 2>/dev/null | md5sum | head -c 32; echo`;
const write = (index: number) => `dd if=/dev/zero of=/root/new bs=4096 seek=${index} count=1 conv=notrunc,fsync 2>/dev/null`;

/** `/root/old` lies in `web@mon.img`, `/root/new` in `web.delta`; 64 blocks each. */
async function twoLayers(): Promise<TestStore> {
  const store = await smallStore();
  await store.done('set', 'web', '--settle', 'never');
  await changeDisk(store, 'web', `head -c ${blocksOfFile * block} /dev/urandom > root/old`);
  await store.done('snapshot', 'create', 'web@mon');
  await changeDisk(store, 'web', `head -c ${blocksOfFile * block} /dev/urandom > root/new`);
  return store;
}

/** The blocks of a file of the present, by number and content. */
async function blocksOf(store: TestStore, path: string): Promise<{ number: number; sum: string }[]> {
  return withDisk(store, 'web', async (disk) => {
    const copy = join(await temporaryDirectory(), 'copy');
    const numbers = (await shell('debugfs', '-R', `blocks ${path}`, disk)).split(/\s+/).map(Number);
    await shell('debugfs', '-R', `dump ${path} ${copy}`, disk);
    const bytes = await readFile(copy);
    const sum = (index: number) =>
      createHash('md5')
        .update(bytes.subarray(index * block, (index + 1) * block))
        .digest('hex');
    return numbers.map((number, index) => ({ number, sum: sum(index) }));
  });
}

describe('a container that runs while the host’s disk fails', () => {
  let store: TestStore;
  let disk: FailingDisk;
  let program: string;
  let old: { number: number; sum: string }[];
  let fresh: { number: number; sum: string }[];

  beforeEach(async () => {
    store = await twoLayers();
    [old, fresh] = [await blocksOf(store, '/root/old'), await blocksOf(store, '/root/new')];
    disk = await FailingDisk.create();
    program = await recordedProgram(disk.environment);
  });

  /** Only the storage server has the failing disk, unless told. */
  const loopbox = (args: string[], env: Record<string, string> = {}): Promise<ExecuteResult> =>
    execute(program, args, { env: { ...store.environment, ...env } });
  const done = async (...args: string[]) => expect(await loopbox(args), args.join(' ')).toMatchObject({ code: 0 });
  const guest = (script: string) => loopbox(['exec', 'web', 'sh', '-c', script]);
  const sums = async (file: string) => {
    const { stdout } = await guest(Array.from({ length: blocksOfFile }, (_, index) => inGuest(index, file)).join('\n'));
    return stdout.trim().split('\n');
  };
  const worker = async () => {
    const { runRoot, root } = store;
    return (await new StackControl(new Store({ root, runRoot }).runDirectory('web').controlPath, 'web').status()).worker;
  };
  /** Ends it, with a host that is sound again, and looks at what it leaves. */
  const expectSoundAtEnd = async () => {
    disk.mend();
    await done('stop', '-t', '0', 'web');
    await done('start', 'web');
    expect(await guest(`${write(63)} && cat /root/old /root/new > /dev/null`)).toMatchObject({ code: 0 });
    await done('stop', '-t', '0', 'web');
    await withDisk(store, 'web', (path) => shell('e2fsck', '-fn', path));
    expect((await blocksOf(store, '/root/old')).map(({ sum }) => sum)).toEqual(old.map(({ sum }) => sum));
  };

  it.each([
    { where: 'a sealed layer', layer: 'web@mon.img', file: '/root/old', offset: 0 },
    { where: 'its top', layer: 'web.delta', file: '/root/new', offset: dataOffset },
  ])('reads all but the blocks of $where that can’t be read, and those when they can', async ({ layer, file, offset }) => {
    const blocks = file === '/root/old' ? old : fresh;
    const bad = offset + (blocks[20]?.number ?? 0) * block;
    disk.fail({ path: `*/${layer}`, operations: ['read'], begin: bad, end: bad + block });
    await done('start', 'web');
    const before = await worker();
    expect(await sums(file)).toEqual(blocks.map(({ sum }, index) => (index === 20 ? sumOfNothing : sum)));
    expect(await guest(`cat ${file} > /dev/null`)).toMatchObject({ code: 1, stderr: expect.stringMatching(/(I|Input)\/(O|output) error/) });
    disk.mend();
    expect(await sums(file)).toEqual(blocks.map(({ sum }) => sum));
    expect(await worker()).toBe(before);
    await done('stop', '-t', '0', 'web');
  });

  it('is told of each write that fails, and later ones come through', async () => {
    await done('start', 'web');
    const before = await worker();
    const bad = dataOffset + (fresh[20]?.number ?? 0) * block;
    disk.fail({ path: '*/web.delta', operations: ['write'], begin: bad, end: bad + block });
    expect((await guest(write(20))).code).not.toBe(0);
    expect(await guest(write(30))).toMatchObject({ code: 0 });
    disk.mend();
    expect(await guest(write(20))).toMatchObject({ code: 0 });
    expect(await store.inspect('web')).toMatchObject({ state: 'running' });
    expect(await worker()).toBe(before);
    await done('stop', '-t', '0', 'web');
    const zeroes = createHash('md5').update(Buffer.alloc(block)).digest('hex');
    const wanted = fresh.map(({ sum }, index) => (index === 20 || index === 30 ? zeroes : sum));
    expect((await blocksOf(store, '/root/new')).map(({ sum }) => sum)).toEqual(wanted);
    await expectSoundAtEnd();
  });

  it.each([
    { what: 'a sync', failure: { operations: ['sync'], path: '*/web.delta', last: 1 } },
    { what: 'the write of a map', failure: { operations: ['write'], path: '*/web.delta', begin: MiB, end: dataOffset, last: 1 } },
  ])('never has anything synced again after $what has failed, until it is started anew', async ({ failure }) => {
    await done('start', 'web');
    expect(await guest('echo kept | dd of=/root/kept conv=fsync 2>/dev/null')).toMatchObject({ code: 0 });
    disk.fail(failure);
    expect((await guest('head -c 100000 /bin/busybox | dd of=/root/lost conv=fsync 2>/dev/null')).code).not.toBe(0);
    expect(disk.failed).toHaveLength(1);
    disk.mend();
    expect(await store.inspect('web')).toMatchObject({ state: 'running', reason: 'disk failed' });
    for (let again = 0; again < 2; again++) expect((await guest(write(40))).code).not.toBe(0);
    const before = containerFiles(store);
    expect(await loopbox(['snapshot', 'create', 'web@new'])).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('its disk has failed'),
    });
    expect(containerFiles(store)).toEqual(before);
    await expectSoundAtEnd();
    expect(await withDisk(store, 'web', (path) => fileInDisk(path, '/root/kept'))).toBe('kept\n');
  });

  it('goes on without a snapshot whose names or first block fail, and takes it when that is over', async () => {
    await done('start', 'web');
    const before = containerFiles(store);
    const failures: Failure[] = [
      { operations: ['rename'], path: '*/web@new.delta', last: 1 },
      { operations: ['rename'], path: '*/web.delta', last: 1 },
      { operations: ['sync'], path: '*/containers', last: 1 },
      { operations: ['write'], path: '*/web.next', last: 1 },
    ];
    for (const failure of failures) {
      disk.fail(failure);
      expect(await loopbox(['snapshot', 'create', 'web@new'])).toMatchObject({
        code: 1,
        stderr: expect.stringMatching(/^loopbox: Cannot .*EIO/),
      });
      expect(disk.failed).toHaveLength(1);
      expect(containerFiles(store).filter((name) => name !== 'web.next')).toEqual(before);
      expect(await guest(write(10))).toMatchObject({ code: 0 });
    }
    disk.mend();
    await done('snapshot', 'create', 'web@new');
    expect(containerFiles(store)).toEqual(['web.delta', 'web@mon.img', 'web@new.delta']);
    await expectSoundAtEnd();
  });

  it('promises nothing any more where the names of a snapshot can neither be made durable nor taken back', async () => {
    await done('start', 'web');
    disk.fail({ operations: ['sync'], path: '*/containers' });
    expect(await loopbox(['snapshot', 'create', 'web@new'])).toMatchObject({ code: 1 });
    expect((await guest(write(10))).code).not.toBe(0);
    await expectSoundAtEnd();
  });

  it('shows the same while snapshots are absorbed and folded and that fails, and they are when it is over', async () => {
    await done('start', 'web');
    await done('snapshot', 'create', 'web@tue');
    expect(await guest('head -c 100000 /bin/busybox | dd of=/root/more conv=fsync 2>/dev/null')).toMatchObject({ code: 0 });
    await done('snapshot', 'create', 'web@wed');
    const shown = async () => [...(await sums('/root/old')), ...(await sums('/root/new'))];
    const before = await shown();
    const failures: [string, Failure][] = [
      ['web@wed', { operations: ['write'], path: '*/web.delta', last: 1 }],
      ['web@mon', { operations: ['write'], path: '*.fold', last: 1 }],
    ];
    for (const [snapshot, failure] of failures) {
      disk.fail(failure);
      const result = await loopbox(['snapshot', 'rm', '--wait', snapshot], disk.environment);
      expect(result).toMatchObject({ code: 1, stderr: expect.stringContaining('which is removed: ') });
      expect(disk.failed).toHaveLength(1);
      expect(await shown()).toEqual(before);
    }
    disk.mend();
    await done('snapshot', 'rm', '--wait', 'web@tue');
    expect(await shown()).toEqual(before);
    expect(containerFiles(store).filter((name) => name.includes('@') && !name.endsWith('.img'))).toEqual([]);
    await expectSoundAtEnd();
  });
});
