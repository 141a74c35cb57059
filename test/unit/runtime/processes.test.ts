import { expect, it } from 'vitest';
import { exitCodeOfStatus, findProcess, isAlive, parseStatus, readProcess } from '../../../src/runtime/processes';

it('reads a process whose name looks like more fields', () => {
  const after = Array.from({ length: 50 }, (_, index) => String(index + 3));
  after[0] = 'Z';
  expect(parseStatus(7, `7 (a) R 1 (b)) ${after.join(' ')}\n`)).toEqual({
    pid: 7,
    state: 'Z',
    parent: 4,
    group: 5,
    start: 22,
    exitStatus: 52,
  });
});

it('knows a process by its start time', () => {
  const self = readProcess(process.pid);
  expect(self).toMatchObject({ pid: process.pid, parent: process.ppid });
  const start = self?.start ?? 0;
  expect(isAlive({ pid: process.pid, start })).toBe(true);
  expect(isAlive({ pid: process.pid, start: start - 1 })).toBe(false);
  expect(findProcess({ pid: 0, start })).toBeUndefined();
});

it('turns a wait status into the exit code that a shell shows', () => {
  expect(exitCodeOfStatus(7 << 8)).toBe(7);
  expect(exitCodeOfStatus(9)).toBe(137);
  expect(exitCodeOfStatus(0x80 | 11)).toBe(139);
  expect(exitCodeOfStatus(0)).toBe(0);
});
