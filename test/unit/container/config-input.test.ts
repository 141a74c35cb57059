import { describe, expect, it } from 'vitest';
import { applyConfigChange, type ConfigInput, parseConfigInput } from '../../../src/container/config-input';
import { type Config, defaultConfig } from '../../../src/image/manifest';

function changed(config: Config, input: ConfigInput): Config {
  return applyConfigChange(config, parseConfigInput(input));
}

describe('what is configured for snapshots', () => {
  it('is added to what is there, and `none` takes it away', () => {
    const first = changed(defaultConfig(), { hookPre: 'sync', hookTimeout: '2.5', settle: 'never', attach: 'stack' });
    expect(first).toMatchObject({ hooks: { pre: 'sync', timeoutSeconds: 2.5 }, settle: 'never', attach: 'stack' });
    const second = changed(first, { hookPost: 'true', hookTimeout: 'none', settle: 'auto' });
    expect(second).toMatchObject({ hooks: { pre: 'sync', post: 'true' }, settle: 'auto', attach: 'stack' });
    expect(second.hooks).not.toHaveProperty('timeoutSeconds');
    expect(changed(second, { hookPre: 'none', hookPost: 'none' })).not.toHaveProperty('hooks');
  });

  it('stays where something else is changed', () => {
    const before = changed(defaultConfig(), { hookPre: 'sync', attach: 'direct' });
    expect(changed(before, { hostname: 'other' })).toEqual({ ...before, hostname: 'other' });
  });

  it('is checked, and every problem told', () => {
    expect(() => parseConfigInput({ attach: 'loop', settle: 'now', hookPre: ' ', hookPost: 'a\0b', hookTimeout: '0' })).toThrow(
      expect.objectContaining({
        code: 'ERR_LOOPBOX_USAGE',
        message: expect.stringMatching(
          /--attach "loop".*--settle "now".*--hook-pre " ".*--hook-post.*--hook-timeout "0" is not a number of seconds/s,
        ),
      }),
    );
  });
});
