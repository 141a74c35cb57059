import { expect, it } from 'vitest';
import { parseSignal } from '../../../src/runtime/signal-container';

it.each([
  ['TERM', 15],
  ['SIGTERM', 15],
  ['sigkill', 9],
  ['9', 9],
  ['SIGRTMIN', 34],
  ['SIGRTMIN+3', 37],
  ['rtmax-2', 62],
  ['64', 64],
])('knows %s', (signal, number) => {
  expect(parseSignal(signal)).toBe(number);
});

it.each(['', '0', '65', '-9', 'SIG', 'NOPE', 'RTMIN+31', 'RTMAX+1', 'RTMAX-31', '1.5', 'toString'])('refuses "%s"', (signal) => {
  expect(() => parseSignal(signal)).toThrow('there is no such signal');
});
