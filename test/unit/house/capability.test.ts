import { afterEach, describe, expect, it, vi } from 'vitest';
import { probe } from '../../capability';

afterEach(() => vi.unstubAllEnvs());

describe('probe', () => {
  it('gives the plain `it` where nothing is missing', async () => {
    expect(await probe('air', () => undefined)).toBe(it);
  });

  it('prints why tests are skipped', async () => {
    vi.stubEnv('CI', '');
    const warn = vi.spyOn(console, 'warn').mockReturnValue();
    expect(await probe('unicorns', () => 'none seen')).not.toBe(it);
    expect(warn).toHaveBeenCalledWith('Skipped, for want of "unicorns": none seen');
    warn.mockRestore();
  });

  it('fails in CI where the skip is not on the list, also when the check throws', async () => {
    vi.stubEnv('CI', 'true');
    const check = () => Promise.reject(new Error('none seen'));
    await expect(probe('unicorns', check)).rejects.toThrow('lacks "unicorns" (none seen)');
  });
});
