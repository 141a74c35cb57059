import { rmSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { changeView } from '../chain-view';
import { changes, FailingDisk } from '../failing-disk';
import { type ExecuteResult, type SeededRandom, seededRandom, shell, soakCount, temporaryDirectory, type TestStore } from '../fixtures';
import { Content } from '../powercuts/content';
import { StateReader } from '../powercuts/reader';
import { Replay } from '../powercuts/replay';
import { snapshots } from '../powercuts/verb-cases';
import { named } from '../powercuts/verb-expectation';
import { smallStore } from '../powercuts/world';
import { heldByKernel } from '../remains';

const isSoak = process.env.LOOPBOX_SOAK !== undefined;

/** What is wrong with the file system, and what its repair must say that it cost. */
const harms: Record<string, { requests: string[]; lost: string[] }> = {
  // Of the one e2fsck says that it clears something; the other it only fixes.
  'that costs files': { requests: ['clri /root/since', 'sif /root/big size 5'], lost: ['/root/big changed', '/root/since gone'] },
  'that costs nothing': { requests: ['sif /root links_count 7'], lost: [] },
};
const ofSuite = Object.entries(harms).filter(([title]) => isSoak || title === 'that costs files');

const troubles = [
  { operations: changes, error: 'EIO' },
  { operations: ['read'], error: 'EIO' },
  ...(isSoak ? [{ operations: ['write', 'create', 'link'], error: 'ENOSPC' } as const] : []),
] as const;

interface Report {
  sound: boolean;
  repair: { lost: { path: string; what: string }[]; kept: string | null } | null;
}

/** The container `web` whose file system is damaged, put back before each repair. */
class DamagedContainer {
  private constructor(
    readonly store: TestStore,
    readonly disk: FailingDisk,
    private readonly copy: string,
  ) {}

  static async make(requests: string[]): Promise<DamagedContainer> {
    const store = await smallStore();
    await snapshots(store, 'mon');
    await changeView(store, 'web', async (view) => {
      for (const request of requests) await shell('debugfs', '-w', '-R', request, view);
    });
    const copy = join(await temporaryDirectory(), 'copy');
    await shell('cp', '-a', store.root, copy);
    return new DamagedContainer(store, await FailingDisk.create(), copy);
  }

  async putBack(): Promise<void> {
    rmSync(this.store.root, { recursive: true });
    await shell('cp', '-a', this.copy, this.store.root);
  }

  repair(): Promise<ExecuteResult> {
    return this.store.loopbox(['check', '--repair', 'web', '--format', 'json'], { env: this.disk.environment });
  }

  /** What each name shows, by a reader that shares no code with loopbox; a snapshot of what was there is `kept`. */
  shown(random: SeededRandom): Map<string, Buffer[]> {
    const elsewhere = new Map([['../templates/small.img', Content.ofFile(join(this.store.root, 'templates/small.img'))]]);
    const reader = new StateReader(Replay.ofDirectory(join(this.store.root, 'containers')).cut('kept', random), elsewhere);
    const views = [...named(reader)].map(([name, path]) => [name, reader.view(reader.emptiedInto(path) ?? path).blocks()] as const);
    return new Map(views.map(([name, blocks]) => [name.includes('@before-repair-') ? 'kept' : name, blocks]));
  }
}

/** Block 0 has what a seal changes. */
function isSame(one: readonly Buffer[] | undefined, other: readonly Buffer[] | undefined): boolean {
  return (
    one?.length === other?.length && (one ?? []).every((block, index) => index === 0 || block.equals(other?.[index] ?? Buffer.alloc(0)))
  );
}

describe('where the host’s disk fails, check --repair', { timeout: soakCount(10) * 120_000 }, () => {
  it.each(ofSuite)('%s never says that it came through, loses nothing unsaid, and goes through when that is over', async (_, harm) => {
    const random = seededRandom();
    const container = await DamagedContainer.make(harm.requests);
    const { store, disk } = container;
    const before = container.shown(random);

    /** That the container is as it was (false), or is repaired, and what that cost is kept. */
    const isRepaired = async (): Promise<boolean> => {
      const now = container.shown(random);
      expect(isSame(now.get('web@mon'), before.get('web@mon'))).toBe(true);
      const isChanged = !isSame(now.get('web'), before.get('web'));
      if (now.has('kept')) expect(isSame(now.get('kept'), before.get('web'))).toBe(true);
      expect(now.has('kept')).toBe(isChanged && harm.lost.length > 0);
      if (!isChanged) return false;
      await expectClean(now.get('web') ?? []);
      return true;
    };
    /** What a repair says that came through; it may have met a file that it could not read on the way, and is no success then. */
    const expectTold = ({ code, stdout }: ExecuteResult, isFailing = false, isTransient = false) => {
      const { sound, repair } = JSON.parse(stdout) as Report;
      expect(repair?.lost.map(({ path, what }) => `${path} ${what}`).sort()).toEqual(harm.lost);
      expect(repair?.kept !== null).toBe(harm.lost.length > 0);
      expect(code).toBe(sound ? 0 : 13);
      if (isFailing || harm.lost.length > 0) expect(sound).toBe(false);
      else expect(sound || isTransient).toBe(true);
    };

    for (const { operations, error } of troubles) {
      await container.putBack();
      disk.count({ path: `${store.root}/*s/*`, operations: [...operations] });
      expectTold(await container.repair());
      const numbers = Array.from({ length: disk.counted }, (_unused, index) => index + 1);
      while (numbers.length > (isSoak ? 100 : 1)) numbers.splice(random.below(numbers.length), 1);
      for (const at of numbers) {
        await container.putBack();
        const isOnce = random.below(2) === 0;
        disk.fail({ path: `${store.root}/*s/*`, operations: [...operations], first: at, last: isOnce ? at : 1e9, error });
        const result = await container.repair();
        const what = `${operations[0]} ${at}: ${disk.failed.slice(0, 3).join('; ')}: exit ${result.code}: ${result.stderr}${result.stdout}`;
        disk.mend();
        try {
          expect(heldByKernel(store)).toEqual([]);
          const isTold = result.stdout !== '';
          // What e2fsck syncs loopbox syncs once more, and is told by the kernel of a failure, too; this disk tells each only once.
          const isOnlySync = disk.failed.every((failed) => /^sync .*\(deleted\)/.test(failed));
          // What failed once may have been read again.
          if (isTold) expectTold(result, !isOnlySync && !isOnce, isOnce);
          else expect([error === 'EIO' ? 1 : 14, 13], result.stderr).toContain(result.code);
          const wasRepaired = await isRepaired();
          if (isTold) expect(wasRepaired).toBe(true);
          const again = await container.repair();
          if (wasRepaired) expect(again).toMatchObject({ code: 0, stderr: '' });
          else expectTold(again);
          expect(await isRepaired()).toBe(true);
        } catch (cause) {
          throw new Error(what, { cause });
        }
      }
    }
  });
});

async function expectClean(blocks: readonly Buffer[]): Promise<void> {
  const path = join(await temporaryDirectory(), 'view');
  await writeFile(path, Buffer.concat(blocks));
  await shell('e2fsck', '-fn', path);
  rmSync(path);
}
