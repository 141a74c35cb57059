import { link, symlink } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { beforeAll, describe, expect, it } from 'vitest';
import { seededRandom, soakCount } from '../counts';
import { cleanUp, execute, lockIsFree, shell, TestStore, temporaryDirectory } from '../fixtures';
import { heldByKernel } from '../remains';

const minute = 60_000;
let store: TestStore;

beforeAll(async () => {
  store = await TestStore.create();
  await store.importBusybox();
  await store.createBusybox('c', '--full', '--', 'sleep', '1000');
});

describe('two starts of one container at once have exactly one winner', () => {
  it('both by name', () => expectOneWinner(soakCount(200), byName, byName), 20 * minute);

  it('by name and by its file', () => expectOneWinner(soakCount(50), byName, byFile(store.imageOf('c'))), 20 * minute);

  it(
    'by name and by a path through a symbolic link',
    async () => {
      const elsewhere = join(await temporaryDirectory(), 'elsewhere');
      await symlink(join(store.root, 'containers'), elsewhere);
      await expectOneWinner(soakCount(50), byName, byFile(join(elsewhere, 'c.img')));
    },
    20 * minute,
  );

  it(
    'by name and by a hard link',
    async () => {
      const other = join(await temporaryDirectory(), 'other.img');
      await link(store.imageOf('c'), other);
      await expectOneWinner(soakCount(50), byName, byFile(other));
    },
    20 * minute,
  );

  it(
    'both by files: a symbolic and a hard link',
    async () => {
      const directory = await temporaryDirectory();
      const [soft, hard] = [join(directory, 'soft.img'), join(directory, 'hard.img')];
      await symlink(store.imageOf('c'), soft);
      await link(store.imageOf('c'), hard);
      await expectOneWinner(soakCount(50), byFile(soft), byFile(hard));
    },
    20 * minute,
  );
});

it('while it runs, a stock mount of its file is refused or shares the device, and the data is whole after', async () => {
  await store.createBusybox('data', '--full', '--', 'sh', '-c', 'while :; do date >> /log; sync -f /log; done');
  await store.done('start', 'data');
  const random = Array.from({ length: 64 }, (_, i) => `${i}:${seededRandom().below(1e9)}`).join('\n');
  await store.done('exec', 'data', 'sh', '-c', `echo '${random}' > /content`);

  const target = await temporaryDirectory();
  const mount = await execute('mount', ['-o', 'loop', store.imageOf('data'), target]);
  if (mount.code === 0) {
    cleanUp(async () => void (await execute('umount', [target])));
    expect(heldByKernel(store).filter((thing) => thing.startsWith('loop device'))).toHaveLength(1);
    expect((await shell('cat', join(target, 'content'))).trim()).toBe(random);
    await shell('umount', target);
  } else {
    expect(mount.stderr).toMatch(/overlapping loop device|already mounted|busy/);
  }
  expect(await store.done('exec', 'data', 'cat', '/content')).toBe(random);
  await store.done('stop', '-t', '0', 'data');

  expect(await execute('e2fsck', ['-fn', store.imageOf('data')])).toMatchObject({ code: 0 });
  expect((await shell('debugfs', '-R', 'cat /content', store.imageOf('data'))).trim()).toBe(random);
});

const byName = ['start', 'c'];
const byFile = (path: string) => ['run', '-d', path];

/** Starts the container by both commands at once, again and again. */
async function expectOneWinner(rounds: number, ...starts: string[][]): Promise<void> {
  const random = seededRandom();
  for (let round = 0; round < rounds; round++) {
    const late = random.below(60);
    const commands = random.below(2) ? starts : starts.toReversed();
    const [one, two] = await Promise.all(
      commands.map(async (args, index) => {
        await sleep(index * late);
        return store.loopbox(args);
      }),
    );
    expect(new Set([one?.code, two?.code]), `round ${round}, ${late} ms apart: ${one?.stderr}${two?.stderr}`).toEqual(new Set([0, 11]));
    expect((await shell('losetup', '-j', store.imageOf('c'))).split('\n')).toHaveLength(1);
    const winner = one?.code === 0 ? commands[0] : commands[1];
    await store.done('stop', '-t', '0', winner?.at(-1) ?? '');
    await expect.poll(() => lockIsFree(store.imageOf('c'))).toBe(true);
  }
  await expect.poll(() => heldByKernel(store)).toEqual([]);
  expect(await execute('e2fsck', ['-fn', store.imageOf('c')])).toMatchObject({ code: 0 });
}
