import { mkdtempSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { HeldFiles } from '../../../src/image/held-files';

describe('what is read under a verb lock', () => {
  let directory: string;
  let held: HeldFiles;
  let readings = 0;

  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'loopbox-held-'));
    held = new HeldFiles(directory, 'web');
    readings = 0;
  });
  afterEach(() => rmSync(directory, { recursive: true }));

  const pathOf = (fileName: string) => join(directory, fileName);
  const write = (fileName: string) => writeFileSync(pathOf(fileName), 'text');
  const read = async () => {
    readings++;
    return undefined;
  };
  const look = (fileName: string, anew = false) => held.look(pathOf(fileName), read, anew);
  const lieForAWhile = async (fileName: string) => {
    await expect.poll(() => Date.now() - statSync(pathOf(fileName)).ctimeMs, { interval: 20 }).toBeGreaterThan(150);
  };

  it('is known from then on, unless it is wanted anew', async () => {
    write('web@mon.delta');
    await lieForAWhile('web@mon.delta');
    for (let time = 0; time < 3; time++) await look('web@mon.delta');
    expect(readings).toBe(1);
    await look('web@mon.delta', true);
    expect(readings).toBe(2);
  });

  it('is read again when the file was written to, or another has its name', async () => {
    write('web@mon.delta');
    write('web@tue.delta');
    await lieForAWhile('web@tue.delta');
    await look('web@mon.delta');
    write('web@mon.delta');
    await lieForAWhile('web@mon.delta');
    await look('web@mon.delta');
    expect(readings).toBe(2);
    renameSync(pathOf('web@tue.delta'), pathOf('web@mon.delta'));
    await look('web@mon.delta');
    expect(readings).toBe(3);
    rmSync(pathOf('web@mon.delta'));
    await look('web@mon.delta');
    expect(readings).toBe(4);
  });

  it('is read again while a change might not show in the file’s time', async () => {
    const timesOfTwo = async () => {
      write('web.delta');
      readings = 0;
      await look('web.delta');
      await look('web.delta');
      return readings;
    };
    await expect.poll(timesOfTwo).toBe(2);
  });

  it('is read each time of what others than its holder write to', async () => {
    for (const fileName of ['shop.img', 'template', 'webserver@mon.delta']) {
      write(fileName);
      await lieForAWhile(fileName);
      readings = 0;
      await look(fileName);
      await look(fileName);
      expect([fileName, readings]).toEqual([fileName, 2]);
    }
  });
});
