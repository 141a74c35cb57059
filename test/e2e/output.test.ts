import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { printable } from '../../src/printable';
import { type ExecuteResult, execute, program, TestStore, temporaryDirectory } from '../fixtures';

let store: TestStore;

beforeAll(async () => {
  store = await TestStore.create();
  await store.importBusybox();
  await store.done('create', 'box', '--template', 'busybox', '--', 'sh', '-c', 'seq 100000; exit 3');
  await store.done('start', 'box');
  await store.done('wait', 'box');
});

/** What bin/loopbox ends with when its reader has gone after the first byte. */
function cut(...args: string[]): Promise<ExecuteResult> {
  const script = '"$0" "$@" | head -c 1 >/dev/null; echo "${PIPESTATUS[0]}"';
  return execute('bash', ['-c', script, program, ...args], { env: store.environment });
}

describe('output that is cut short by its reader', () => {
  it.each([
    ['export', 'box', '-'],
    ['logs', 'box'],
    ['logs', '--format', 'json', 'box'],
  ])('is no success of %s', async (...args) => {
    expect(await cut(...args)).toMatchObject({ stdout: '141\n', stderr: '' });
  });
});

it('a command that nothing is left to wait for, and that is not done, is no success', async () => {
  const preloaded = join(await temporaryDirectory(), 'forget.cjs');
  await writeFile(preloaded, "require('node:fs').close = () => {};");
  const env = { NODE_OPTIONS: `--require ${preloaded}` };
  expect(await store.loopbox(['stop', 'box'], { env })).toMatchObject({
    code: 1,
    stdout: '',
    stderr: expect.stringContaining('the work is not done'),
  });
});

describe('names that strangers have given', () => {
  it('of what a template is cleaned from do not reach the terminal as they are', async () => {
    const name = '$(printf "\\033]0;owned\\007\\302\\233")';
    const touch = `mkdir -p /etc/ssh; : > "/etc/ssh/ssh_host_${name}_key"`;
    await store.done('run', '--template', 'busybox', 'hostile', '--', 'sh', '-c', touch);
    const { stdout } = await store.loopbox(['template', 'create', 'cleaned', '--from', 'hostile']);
    expect(stdout).toContain('cleaned /etc/ssh/ssh_host_\\x1b]0;owned\\x07\\x9b_key\n');
    for (const line of stdout.split('\n')) expect(line).toBe(printable(line));
    await store.done('template', 'rm', 'cleaned');
  });
});

describe('the forms of', () => {
  it('wait, of template inspect and of info are those that the global flags ask for', async () => {
    expect(await store.done('wait', 'box')).toBe('3');
    expect(JSON.parse(await store.done('wait', '--format', 'json', 'box'))).toEqual({ exitCode: 3 });
    expect(await store.done('template', 'inspect', '-q', 'busybox')).toBe('busybox');
    expect((await store.done('info', '-q')).split('\n')).toContain('runc');
    expect(await store.done('info')).toMatch(/^Loop devices: \d+ attached of \d+( \(max_loop \d+\))?; more/m);
  });
});

describe('exec', () => {
  it('refuses -e K-: it could not take the variable away', async () => {
    await store.done('run', '-d', '--template', 'busybox', '-e', 'KEEP=1', 'sleeper', '--', 'sleep', '1000');
    expect(await store.loopbox(['exec', '-e', 'KEEP-', 'sleeper', 'env'])).toMatchObject({
      code: 2,
      stdout: '',
      stderr: 'loopbox: Cannot exec in "sleeper": only --env KEY=VALUE is for one command\nhint: loopbox set sleeper -e KEY-\n',
    });
    await store.done('rm', '-f', 'sleeper');
  });
});
