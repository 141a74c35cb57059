import { existsSync, mkdirSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { changes, FailingDisk, type Failure } from '../failing-disk';
import { type ExecuteResult, type SeededRandom, seededRandom, shell, soakCount, temporaryDirectory, type TestStore } from '../fixtures';
import { Content } from '../powercuts/content';
import { StateReader } from '../powercuts/reader';
import { Replay } from '../powercuts/replay';
import { linked, snapshots, type VerbCase, verbCases } from '../powercuts/verb-cases';
import { expectNothingHalfMade, named, type Shown, shownBy, VerbExpectation } from '../powercuts/verb-expectation';
import { smallStore } from '../powercuts/world';
import { storeFiles } from '../refusal';
import { heldByKernel } from '../remains';

const isSoak = process.env.LOOPBOX_SOAK !== undefined;

const cases: Record<string, VerbCase> = {
  ...verbCases,
  clone: { verb: ['clone', '--keep-identity', 'web@mon', 'site'], names: ['site', 'web'], before: (store) => snapshots(store, 'mon') },
  export: {
    verb: ['export', 'web', 'exports/out.img'],
    before: async (store) => {
      await snapshots(store, 'mon');
      mkdirSync(join(store.root, 'exports'));
    },
  },
};

/** The others do the same to files. */
const inSuite = [
  'snapshot of a delta',
  'restore',
  'snapshot rm with absorb',
  'settle of a disk that has grown',
  'create --linked',
  'export',
];
const ofSuite = Object.entries(cases).filter(([title]) => isSoak || inSuite.includes(title));

/** The exit code of a verb that failed after it had done what counts, when it is repeated. */
const doneAlready: Record<string, number> = { rename: 10, 'snapshot rm with absorb': 10, 'snapshot rm with fold': 10 };

/** What may fail, and what verbs say of it. */
interface Trouble {
  operations: string[];
  error: 'EIO' | 'ENOSPC';
  code: number;
  words: RegExp;
}

const eio = { error: 'EIO', code: 1, words: /^loopbox: Cannot .*(i\/o|input\/output) error \(EIO, .*\)\n$/ } as const;
const troubles: Trouble[] = [
  { operations: changes, ...eio },
  { operations: ['read'], ...eio },
  { operations: ['write', 'create', 'link'], error: 'ENOSPC', code: 14, words: /^loopbox: Cannot .*(no space|host has no space|full).*\n/ },
];

/** What the containers' files of a store are now, put together by a reader that shares no code with loopbox. */
function read(store: TestStore, random: SeededRandom): StateReader {
  const elsewhere = new Map([['../templates/small.img', Content.ofFile(join(store.root, 'templates/small.img'))]]);
  return new StateReader(Replay.ofDirectory(join(store.root, 'containers')).cut('kept', random), elsewhere);
}

/** What shall be in the end, with the time of this run in a name that has one. */
function atThisTime(after: Shown, reader: StateReader): Shown {
  const now = [...named(reader).keys()].find((name) => name.includes('@before-restore-'));
  return new Map([...after].map(([name, blocks]) => [name.includes('@before-restore-') ? (now ?? name) : name, blocks]));
}

/** A verb, and a store that is put back as it was before each run of it. */
class Rehearsal {
  readonly disk: FailingDisk;

  private constructor(
    readonly store: TestStore,
    private readonly verb: string[],
    private readonly copy: string,
    disk: FailingDisk,
  ) {
    this.disk = disk;
  }

  static async of({ verb, before }: VerbCase): Promise<Rehearsal> {
    const store = await smallStore();
    await before?.(store);
    const copy = join(await temporaryDirectory(), 'copy');
    await shell('cp', '-a', store.root, copy);
    return new Rehearsal(store, verb, copy, await FailingDisk.create());
  }

  /** Runs the verb while the operations from the first to the last of these kinds fail; none unless told. */
  async run(operations: string[], first = 1e9, last = 1e9, error: Failure['error'] = 'EIO'): Promise<ExecuteResult> {
    rmSync(this.store.root, { recursive: true });
    await shell('cp', '-a', this.copy, this.store.root);
    this.disk.fail({ path: `${this.store.root}/*s/*`, operations, first, last, error });
    const result = await this.store.loopbox(this.verb, { env: this.disk.environment, cwd: this.store.root });
    this.disk.mend();
    return result;
  }

  again(): Promise<ExecuteResult> {
    return this.store.loopbox(this.verb, { cwd: this.store.root });
  }
}

/** Some of the operations, in their order. */
function chosen(count: number, random: SeededRandom): number[] {
  const numbers = Array.from({ length: count }, (_, index) => index + 1);
  while (numbers.length > (isSoak ? 100 : 1)) numbers.splice(random.below(numbers.length), 1);
  return numbers;
}

describe('where the host’s disk fails', { timeout: soakCount(10) * 120_000 }, () => {
  it.each(ofSuite)('%s fails, too, changes nothing that has a name, and goes through when that is over', async (title, one) => {
    const random = seededRandom();
    const rehearsal = await Rehearsal.of(one);
    const { store, disk } = rehearsal;
    const before = shownBy(read(store, random));
    expect(await rehearsal.run([])).toMatchObject({ code: 0, stderr: '' });
    const after = shownBy(read(store, random));

    const look = async ({ error, code: wantedCode, words }: Trouble, at: number, isOver: boolean, { code, stderr }: ExecuteResult) => {
      const found = read(store, random);
      const wanted = atThisTime(after, found);
      new VerbExpectation(code === 0 && stderr === '' ? wanted : before, wanted, one.grownFrom).holdsAtOnce(found);
      // What can't be taken back now, and what merges prepare to keep, the next command has.
      if (isOver && !/settle|flatten/.test(title)) expectNothingHalfMade(found);
      expect(heldByKernel(store)).toEqual([]);
      const exports = join(store.root, 'exports');
      if (existsSync(exports) && isOver) expect(readdirSync(exports)).toEqual(code === 0 ? ['out.img'] : []);
      if (code === 0 && stderr === '') return;
      if (code === 0) expect(stderr).toMatch(/^warning: .*no space is left on the host/);
      else expect([error, at, code, stderr]).toEqual([error, at, wantedCode, expect.stringMatching(words)]);
      const again = await rehearsal.again();
      expect([0, doneAlready[title] ?? 0]).toContain(again.code);
      const last = read(store, random);
      new VerbExpectation(after, atThisTime(after, last)).holdsRecovered(last);
    };
    for (const trouble of troubles) {
      const { operations, error } = trouble;
      await rehearsal.run(operations);
      for (const at of chosen(disk.counted, random)) {
        // Once, as of a sector that is bad, or from then on. A restore that could not be taken back is done, and done once more when it is repeated.
        const isOnce = one.restores === true || random.below(2) === 0;
        const result = await rehearsal.run(operations, at, isOnce ? at : 1e9, error);
        try {
          await look(trouble, at, isOnce, result);
        } catch (cause) {
          const what = `${operations[0]} ${at} fails: ${disk.failed.slice(0, 3).join('; ')}: exit ${result.code}: ${result.stderr}`;
          throw new Error(what, { cause });
        }
      }
    }
  });

  const cloned = async (store: TestStore) => void (await store.done('clone', '--linked', 'web', 'site'));
  const clonedOld = async (store: TestStore) => {
    await snapshots(store, 'mon');
    await store.done('clone', '--linked', 'web@mon', 'site');
  };

  it.each([
    { title: 'a start', verb: ['start', 'web'], before: cloned },
    { title: 'rm', verb: ['rm', 'web'], before: cloned },
    { title: 'snapshot rm --wait', verb: ['snapshot', 'rm', '--wait', 'web@mon'], before: clonedOld },
    { title: 'settle', verb: ['settle', 'web'], before: clonedOld },
    { title: 'template rm', verb: ['template', 'rm', 'small'], before: linked },
  ])('$title takes nothing away that a clone may need whose file can’t be read', async (one) => {
    const random = seededRandom();
    const { store, disk } = await Rehearsal.of(one);
    const before = shownBy(read(store, random)).get('site') ?? [];
    disk.fail({ path: '*/containers/site.delta', operations: ['read'] });
    const result = await store.loopbox(one.verb, { env: disk.environment });
    disk.mend();
    expect(result).toMatchObject({ code: 1, stderr: expect.stringMatching(/^loopbox: Cannot .*site\.delta.*EIO/) });
    // What it has already taken a name from is there all the same.
    expect(read(store, random).view('site.delta').differsFrom(before)).toBe(-1);
    expect(storeFiles(store)).toContain('small.img');
    await store.done('export', 'site', join(await temporaryDirectory(), 'out.img'));
  });
});
