import { expect, it } from 'vitest';
import { describeRuntimeFailure, readRuntimeMessage } from '../../../src/runtime/runtime-messages';

const runc = (message: string) => `time="2026-11-21T11:04:43Z" level=error msg=${JSON.stringify(message)}\n`;

it("takes the message out of the loggers' lines", () => {
  expect(readRuntimeMessage(runc('container does not exist'))).toBe('container does not exist');
  expect(readRuntimeMessage(`time="x" level=warning msg=ignored\n${runc('runc create failed: unable to apply "x"')}`)).toBe(
    'unable to apply "x"',
  );
  expect(readRuntimeMessage('2026-11-21T11:04:43.000000Z: cannot open `x`\n')).toBe('cannot open `x`');
  expect(readRuntimeMessage('one\ntwo\n\n')).toBe('two');
  expect(readRuntimeMessage('')).toBe('');
});

it('knows a command that is missing or not executable', () => {
  const failure = (text: string) =>
    describeRuntimeFailure('start', 'web', runc(`runc create failed: unable to start container process: ${text}`));
  const missing = failure('exec: "nope": executable file not found in $PATH');
  expect(missing).toMatchObject({ code: 'ERR_LOOPBOX_COMMAND_NOT_FOUND', exitCode: 127 });
  expect(missing.message).toBe('Cannot start "web": its command does not exist (exec: "nope": executable file not found in $PATH)');
  expect(failure('exec: "/x": stat /x: no such file or directory').exitCode).toBe(127);
  expect(failure('exec: "/etc": permission denied').exitCode).toBe(126);
});

it('says what to do where it knows', () => {
  const busy = 'unable to set memory limit to 4096 (current usage: 790528, peak usage: 8523776)';
  expect(describeRuntimeFailure('set the limits of', 'web', runc(busy))).toMatchObject({
    message: `Cannot set the limits of "web": ${busy}`,
    hint: 'choose a limit above what it uses now',
  });
  const hybrid = 'cgroups in hybrid mode not supported, drop all controllers from cgroupv2';
  expect(describeRuntimeFailure('start', 'web', hybrid)).toMatchObject({ code: 'ERR_LOOPBOX_NOT_SUPPORTED', hint: '--runtime runc' });
  expect(describeRuntimeFailure('start', 'web', '').message).toBe('Cannot start "web": the runtime gave no reason');
});
