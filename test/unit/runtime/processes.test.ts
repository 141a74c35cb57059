import { spawn } from 'node:child_process';
import { expect, it } from 'vitest';
import { exitCodeOfStatus, findProcess, isAlive, parseStatus, readProcess } from '../../../src/runtime/processes';
import { cleanUp } from '../../temporary';

it('reads a process whose name looks like more fields', () => {
  const after = Array.from({ length: 50 }, (_, index) => String(index + 3));
  after[0] = 'Z';
  expect(parseStatus(7, `7 (a) R 1 (b)) ${after.join(' ')}\n`)).toEqual({
    pid: 7,
    state: 'Z',
    parent: 4,
    group: 5,
    threads: 20,
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

it('takes a process without its first thread for alive until the last one has ended', async () => {
  const script =
    'import ctypes, threading, time; threading.Thread(target=time.sleep, args=(1000,)).start(); ctypes.CDLL(None).pthread_exit(None)';
  const child = spawn('python3', ['-c', script], { stdio: 'ignore' });
  cleanUp(() => void child.kill('SIGKILL'));
  const pid = child.pid ?? 0;
  const start = readProcess(pid)?.start ?? 0;
  await expect.poll(() => readProcess(pid)?.state).toBe('Z');
  expect(isAlive({ pid, start })).toBe(true);
  child.kill('SIGKILL');
  await expect.poll(() => isAlive({ pid, start })).toBe(false);
});

it('turns a wait status into the exit code that a shell shows', () => {
  expect(exitCodeOfStatus(7 << 8)).toBe(7);
  expect(exitCodeOfStatus(9)).toBe(137);
  expect(exitCodeOfStatus(0x80 | 11)).toBe(139);
  expect(exitCodeOfStatus(0)).toBe(0);
});
