import { appendFile, readFile, rename, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { LogLine, parseLogLine, prepareLog, readLogs } from '../../../src/runtime/logs';
import { MiB } from '../../../src/units';
import { temporaryDirectory } from '../../temporary';

const time = '2026-11-21T10:53:00.666988283+00:00';
const line = (text: string, tag = 'F', stream = 'stdout') => `${time} ${stream} ${tag} ${text}\n`;

async function newLog(text: string): Promise<string> {
  const path = join(await temporaryDirectory(), 'a.log');
  await writeFile(path, text);
  return path;
}

async function texts(log: AsyncIterable<LogLine>): Promise<string[]> {
  const all: string[] = [];
  for await (const { text, partial } of log) all.push(partial ? `${text}…` : text);
  return all;
}

it("parses conmon's lines, and nothing else", () => {
  const parsed = parseLogLine(Buffer.from(`${time} stderr P two  words `));
  expect(parsed?.toJSON()).toEqual({ time, stream: 'stderr', text: 'two  words ', partial: true });
  expect(parseLogLine(Buffer.from(`${time} stdout F `))?.bytes).toHaveLength(0);
  expect(parseLogLine(Buffer.from(`${time} stdin F x`))).toBeUndefined();
  expect(parseLogLine(Buffer.from('hello'))).toBeUndefined();
});

it('keeps bytes that are no text', async () => {
  const bytes = Buffer.from([0, 0xff, 0x80, 0x0d]);
  const path = await newLog('');
  await writeFile(path, Buffer.concat([Buffer.from(`${time} stdout F `), bytes, Buffer.from('\n')]));
  for await (const piece of readLogs(path)) expect(piece.bytes).toEqual(bytes);
});

it('is empty where there is no log', async () => {
  expect(await texts(readLogs(join(await temporaryDirectory(), 'none')))).toEqual([]);
});

it('counts a line in pieces as one line', async () => {
  const path = await newLog(line('one') + line('tw', 'P') + line('o') + line('three'));
  expect(await texts(readLogs(path))).toEqual(['one', 'tw…', 'o', 'three']);
  expect(await texts(readLogs(path, { lines: 2 }))).toEqual(['tw…', 'o', 'three']);
  expect(await texts(readLogs(path, { lines: 1 }))).toEqual(['three']);
  expect(await texts(readLogs(path, { lines: 0 }))).toEqual([]);
  expect(await texts(readLogs(path, { lines: 9 }))).toHaveLength(4);
});

it('follows a log into its successor, and to the last words', async () => {
  const path = await newLog(line('old'));
  const steps = [
    () => appendFile(path, line('ne').slice(0, -1)),
    () => appendFile(path, 'w\n'),
    async () => {
      await appendFile(path, line('last of the first'));
      await writeFile(`${path}.tmp`, line('first of the next'));
      await rename(`${path}.tmp`, path);
    },
    () => appendFile(path, line('last words')),
  ];
  const follow = async () => {
    await steps.shift()?.();
    return steps.length > 0;
  };
  expect(await texts(readLogs(path, { follow }))).toEqual(['old', 'new', 'last of the first', 'first of the next', 'last words']);
});

it('misses none of the logs that come while an older one is read', async () => {
  const path = await newLog('');
  const follow = async () => {
    await appendFile(path, line('x'.repeat(1000)).repeat(2000));
    return false;
  };
  const replace = async (text: string) => {
    await writeFile(`${path}.tmp`, line(text));
    await rename(`${path}.tmp`, path);
  };
  const read: string[] = [];
  for await (const { text } of readLogs(path, { follow })) {
    read.push(text);
    if (read.length === 500) await replace('second');
    if (read.length === 1500) await replace('third');
  }
  expect([read.length, ...read.slice(-2)]).toEqual([2002, 'second', 'third']);
});

it('stops following when told to', async () => {
  const path = await newLog(line('one'));
  const log = readLogs(path, { follow: () => Promise.resolve(true), signal: AbortSignal.timeout(50) });
  await expect(texts(log)).rejects.toThrow('aborted');
});

it('keeps a log below its cap over many runs, and the newest of it', async () => {
  const path = await newLog('');
  expect(prepareLog(path)).toBe(10 * MiB);
  await writeFile(path, line('x'.repeat(1000)).repeat(1000));
  const { size } = await stat(path);
  expect(prepareLog(path)).toBe(10 * MiB - size);
  await writeFile(path, line('x'.repeat(1000)).repeat(8000) + line('the last'));
  expect(prepareLog(path)).toBe(5 * MiB);
  expect((await stat(path)).size).toBeLessThanOrEqual(5 * MiB);
  const kept = await readFile(path, 'utf8');
  expect(kept.startsWith(time)).toBe(true);
  expect(kept.endsWith(line('the last'))).toBe(true);
});
