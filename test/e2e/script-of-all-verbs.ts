import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { expect } from 'vitest';
import { busyboxTar, shell } from '../fixtures';
import { contentOf, listContent, withStockMount } from '../image-view';
import { heldByKernel } from '../remains';
import type { TestStore } from '../store';
import { TrueNames } from './true-names';

/** What of a verb's output is the same for every way to store a disk. */
type Part = (text: string) => string;

const head: Part = (text) => text.replace(/\n[^]*/, '\n');
const columns =
  (count: number): Part =>
  (text) =>
    text.replace(/^.*$/gm, (line) => line.split(/ {2,}/).slice(0, count).join('  '));
/** Each line's words, whatever stands on whatever. */
const sorted: Part = (text) =>
  `${text
    .trimEnd()
    .replace(/[│├└─ ]/g, '')
    .split('\n')
    .sort()
    .join('\n')}\n`;
const beforeFiles: Part = (text) => text.replace(/^Files:[^]*/m, '');
/** Rows of the present and of snapshots are for one file each, whatever that stands on. */
const lastLine: Part = (text) => `${text.trimEnd().split('\n').at(-1)}\n`;

interface Step {
  /** What it does to the states that there are. */
  change?: () => Promise<void> | void;
  part?: Part;
  code?: number;
}

/**
 * Runs every verb in a store, and expects after each that all names tell the truth: `NAME.img`, where it is, is the whole present of a stopped
 * container to stock tools, `NAME@SNAP.img` the whole snapshot; a delta says what it needs; every snapshot is what it was. Returns what was
 * printed, but for what tells of place, time, chance, and how a disk is stored. `outside` is an empty directory.
 */
export async function scriptOfAllVerbs(store: TestStore, attach: 'direct' | 'stack', outside: string): Promise<string[]> {
  const names = new TrueNames(store);
  const running = new Set<string>();
  const transcript: string[] = [];

  /** A command; `+` stands for a space in a word. */
  const step = async (line: string, { change, part = (text) => text, code = 0 }: Step = {}): Promise<string> => {
    const args = line.split(' ').map((word) => word.replaceAll('+', ' '));
    const result = await store.loopbox(args, { input: 'echo typed\n' });
    expect([line, result.code, code === 0 ? result.stderr : '']).toEqual([line, code, '']);
    await change?.();
    expect([line, await names.lies([...running])]).toEqual([line, []]);
    transcript.push(normalised(`# loopbox ${line}\n${part(result.stdout)}${result.stderr}`, store, outside));
    return result.stdout.trim();
  };
  const read = (state: string) => async () => names.set(state, await names.read(state));
  const start = (name: string, line = `start ${name}`) => step(line, { change: () => void running.add(name) });
  /** What is inside is what is stored then. */
  const inside = async (name: string) => names.set(name, await store.done('exec', name, 'sh', '-c', listContent));
  const stop = async (name: string, line = `stop -t 0 ${name}`) => {
    await inside(name);
    await step(line, { change: () => void running.delete(name) });
  };
  const write = (name: string, word: string) => step(`exec ${name} sh -c echo+${word}+>+/root/file`, { change: () => inside(name) });
  const same = (from: string, to: string) => () => names.set(to, names.content(from));
  /** All but what makes it another container. */
  const expectCopy = (from: string, to: string) => async () => {
    const without = (content: string) => content.replace(/^.* \.\/etc\/(hostname|machine-id)$/gm, '');
    await read(to)();
    expect(without(names.content(to))).toBe(without(names.content(from)));
  };
  const expectImage = async (path: string, content: string) => expect(await withStockMount(path, contentOf)).toBe(content);

  await step(`template import busybox ${await busyboxTar()} --size 128M`, { part: head });
  await step('template ls', { part: head });
  await step('template inspect busybox', { part: head });
  await step(`create web --template busybox --full --attach ${attach} -e COLOR=red -- sleep 1000`, { change: read('web') });
  await step('create web --template busybox', { code: 11 });
  await step('ls');

  await start('web');
  await write('web', 'one');
  for (const line of ['ls', 'ps', 'df', 'logs web', 'enter web']) await step(line);
  await step('inspect web', { part: beforeFiles });
  await step('set web --label tier=front --pids 99');
  await step('snapshot create web@one --description first', { change: same('web', 'web@one') });
  await write('web', 'two');
  await step('snapshot create web@two --pre echo+pre+>+/root/hook --post true', {
    change: async () => {
      await inside('web');
      names.set('web@two', names.content('web'));
    },
  });
  await write('web', 'three');
  await step('snapshot create web@two', { code: 11 });
  await step('snapshot ls', { part: columns(4) });
  await step('snapshot ls --tree', { part: sorted });
  await step('snapshot rename web@two second', {
    change: () => {
      same('web@two', 'web@second')();
      names.delete('web@two');
    },
  });
  await step('files web@one', { part: head });
  await step('map web', { part: lastLine });
  await step('check web@one', { part: lastLine });
  await step('snapshot restore web@one', { code: 11 });
  await step('rename web www', { code: 11 });
  await step('rm web', { code: 11 });
  await step('restart -t 0 web');
  await step('kill web');
  await step('wait web', {
    change: async () => {
      running.delete('web');
      // The kernel lets go of a disk behind the container's end.
      await expect.poll(() => heldByKernel(store)).toEqual([]);
    },
  });
  await step('ls');

  for (const line of ['check web', 'check web@one', 'map web@second']) await step(line, { part: lastLine });
  await step('files web', { part: head });
  await step('df', { part: columns(4) });
  await step('inspect web', { part: beforeFiles });
  await step('snapshot create web@third', { change: same('web', 'web@third') });
  const old = join(outside, 'old');
  await mkdir(old);
  await step(`snapshot mount web@one ${old}`);
  expect(await contentOf(old)).toBe(names.content('web@one'));
  await shell('umount', old);
  const restored = async (snapshot: string, flags = '') => {
    const before = names.content('web');
    await step(`snapshot restore ${flags}${snapshot}`, {
      change: async () => {
        const kept =
          (await store.done('snapshot', 'ls', '-q', 'web')).split('\n').findLast((name) => name.includes('before-restore')) ?? '';
        names.set(kept, before);
        same(snapshot, 'web')();
      },
    });
  };
  await restored('web@one');
  expect(await store.inspect('web')).toMatchObject({ config: { environment: { COLOR: 'red' } } });
  await start('web');
  await write('web', 'four');
  await restored('web@third', '--restart -t 0 ');
  await stop('web');

  await step('clone web copy', { change: expectCopy('web', 'copy') });
  await step('clone web@one early --keep-identity', { change: same('web@one', 'early') });
  await step('clone --linked web@second linked', { change: same('web@second', 'linked') });
  await step(`create made --linked --template busybox --attach ${attach}`, { change: read('made') });
  await start('linked');
  await write('linked', 'five');
  await stop('linked');
  await step('template rm busybox', { code: 11 });
  await step('template rm --flatten-users busybox');
  await step('template ls');
  await step('rename web www', { change: () => names.renameAll('web', 'www') });
  await step('rm --snapshots www', { code: 11 });
  await step('ls');

  for (const state of ['www', 'www@one', 'linked']) {
    const file = join(outside, `${state}.img`);
    await step(`export ${state} ${file}`);
    await expectImage(file, names.content(state));
  }
  await step(`import ${join(outside, 'www.img')} imported`, { change: expectCopy('www', 'imported') });
  await start('imported');
  await stop('imported');
  await step('template create second --from www@one', { part: head });
  await step(`create third --template second --full --attach ${attach}`, { change: read('third') });

  await step('snapshot rm --wait www@second', { change: () => names.delete('www@second') });
  await step('flatten linked');
  await step('settle www', { part: head });
  await step('snapshot rm --oldest 1 --wait www', { change: () => names.delete('www@one') });
  const rest = names.names.filter((name) => name.startsWith('www@'));
  await step('snapshot ls www', { part: columns(3) });
  await step(`snapshot rm ${rest.join(' ')}`, { change: () => names.delete(...rest) });
  await step('settle www');
  await step('snapshot ls');
  await start('www');
  await stop('www');
  await step('flatten www');
  await step('df', { part: columns(3) });
  await step('template rm second');
  const all = names.names;
  await step(`rm -f ${all.join(' ')}`, { change: () => names.delete(...all) });
  await step('ls');
  return transcript;
}

function normalised(text: string, store: TestStore, outside: string): string {
  return text
    .replaceAll(store.root, 'ROOT')
    .replaceAll(outside, 'OUTSIDE')
    .replaceAll(/\/\S*\/busybox\.tar/g, 'TAR')
    .replaceAll(/\d{4}-\d\d-\d\dT[\d:.]+Z/g, 'TIME')
    .replaceAll(/\d{8}-\d{6}(-\d+)?/g, 'STAMP')
    .replaceAll(/[\da-f]{8}(-[\da-f]{4}){3}-[\da-f]{12}/g, 'ID')
    .replaceAll(/\b[\d.]+ ?([KMGT]i)?B\b/g, 'SIZE')
    .replaceAll(', SIZE in reserve', '')
    .replaceAll(/[\d.]+ ms\b/g, 'MS ms')
    .replaceAll(/copied from|sharing blocks with/g, 'made of')
    .replaceAll(/\b(direct|stack)\b/g, 'ATTACH')
    .replaceAll(/\.(img|delta)\b/g, '.FILE')
    .replaceAll(/\b(image|delta)\b/g, 'KIND')
    .replaceAll(/\b\d{3,}\b/g, 'NUMBER')
    .replaceAll(/ {2,}/g, '  ')
    .replaceAll(/ +$/gm, '');
}
