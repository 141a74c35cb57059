import { beforeAll, describe, expect, it } from 'vitest';
import { type HookContext, withHooks } from '../../src/container/hooks';
import { Store } from '../../src/container/store';
import { namedTarget } from '../../src/container/target';
import type { SnapshotHooks } from '../../src/image/manifest';
import { inspectRun } from '../../src/runtime/status';
import { TestStore } from '../fixtures';
import { processesOf } from '../remains';
import { storeWithSleeper } from '../sleeper';
import { kill } from '../victims';

let tests: TestStore;
let base: Omit<HookContext, 'hooks' | 'warn'>;

beforeAll(async () => {
  tests = await storeWithSleeper('c', '--user', '1000', '-e', 'COLOUR=blue', '--start');
  const store = new Store({ root: tests.root, runRoot: tests.runRoot });
  const target = namedTarget(store, 'c');
  const state = await inspectRun(target.directory);
  if (!state.running) throw new Error('It does not run');
  base = { store, target, run: state.record };
});

/** Runs a body that leaves its mark between the hooks; returns what came of it, what was warned of, and who has left a mark. */
async function hooked(hooks: SnapshotHooks, body = async () => {}, signal?: AbortSignal) {
  await tests.done('exec', '-u', '0', 'c', 'rm', '-f', '/marks');
  const warnings: string[] = [];
  const context = { ...base, hooks, signal, warn: (text: string) => void warnings.push(text) };
  const take = async () => {
    await tests.done('exec', '-u', '0', 'c', 'sh', '-c', 'echo body >> /marks');
    await body();
  };
  const result = await withHooks(context, take).catch((error: unknown) => ({ error }));
  return { result, warnings, marks: await tests.done('exec', '-u', '0', 'c', 'sh', '-c', 'cat /marks 2>/dev/null || true') };
}

/** The processes in the container but for its first. */
function strays(): number[] {
  return processesOf(tests)
    .filter(({ pid, inContainer }) => inContainer && pid !== base.run.pid)
    .map(({ pid }) => pid);
}

/** Returns how many there were. */
async function killStrays(): Promise<number> {
  const pids = strays();
  for (const pid of pids) await kill(pid);
  return pids.length;
}

const pre = 'echo pre >> /marks';
const post = 'echo post >> /marks';

describe('hooks of a snapshot', () => {
  it('run before and after it, as root, with the environment of the container, and tell their exit codes', async () => {
    const both = await hooked({ pre: `echo $(id -u) $COLOUR $PWD >> /marks`, post: `${post}; exit 3` });
    expect(both).toEqual({
      result: { value: undefined, codes: { pre: 0, post: 3 } },
      warnings: ['"c": its post hook ended with 3'],
      marks: '0 blue /\nbody\npost',
    });
    expect(await hooked({ post })).toMatchObject({ result: { codes: { post: 0 } }, warnings: [], marks: 'body\npost' });
    expect((await hooked({})).result).toEqual({ value: undefined, codes: {} });
  });

  it('that fail before it prevent it, and what they wrote is shown; post runs', async () => {
    expect(await hooked({ pre: 'seq 5; echo no lock; exit 7', post })).toMatchObject({
      result: {
        error: { code: 'ERR_LOOPBOX_FAILED', message: 'Cannot take a snapshot of "c": its pre hook ended with 7: 4; 5; no lock' },
      },
      marks: 'post',
    });
  });

  it('run after it also where it fails', async () => {
    const failing = async () => {
      throw new Error('no snapshot');
    };
    expect(await hooked({ pre, post }, failing)).toMatchObject({ result: { error: { message: 'no snapshot' } }, marks: 'pre\nbody\npost' });
  });

  it('that take too long are killed, with what they began', async () => {
    const slow = 'sleep 998 & echo waiting; sleep 999; true';
    // Time enough for the runtime to begin it.
    expect(await hooked({ pre: slow, post, timeoutSeconds: 2 })).toMatchObject({
      result: { error: { message: 'Cannot take a snapshot of "c": its pre hook was killed: it took longer than 2 s: waiting' } },
      marks: 'post',
    });
    expect(await hooked({ post: slow, timeoutSeconds: 2 })).toMatchObject({
      result: { codes: { post: 137 } },
      warnings: ['"c": its post hook was killed: it took longer than 2 s: waiting'],
    });
    await expect.poll(strays).toEqual([]);
  });

  it('may leave something running that does not hold their output', async () => {
    expect(await hooked({ pre: 'sleep 997 > /dev/null 2>&1 &' })).toMatchObject({ result: { codes: { pre: 0 } } });
    expect(await killStrays()).toBe(1);
  });

  it('that leave something running with their output are waited for, and it is killed with them', async () => {
    expect(await hooked({ post: 'yes &', timeoutSeconds: 0.5 })).toMatchObject({ result: { codes: { post: 137 } } });
    await expect.poll(strays).toEqual([]);
  });

  it('are not waited for beyond their time, whoever holds their output', async () => {
    expect(await hooked({ post: 'setsid sleep 996 &', timeoutSeconds: 2 })).toMatchObject({ result: { codes: { post: 137 } } });
    expect(await killStrays()).toBe(1);
  });

  it('are killed where the snapshot is aborted, but for post, which runs then', async () => {
    const abort = new AbortController();
    setTimeout(() => abort.abort(new Error('enough')), 300);
    expect(await hooked({ pre: 'sleep 999', post: `sleep 0.1; ${post}` }, undefined, abort.signal)).toMatchObject({
      result: { error: { message: 'enough' } },
      marks: 'post',
    });
  });

  it('that can’t be run fail like those that end badly', async () => {
    expect((await hooked({ pre: 'no-such-program', post })).result).toMatchObject({
      error: { message: expect.stringMatching(/pre hook ended with 127: .*no-such-program.*not found/) },
    });
  });
});
