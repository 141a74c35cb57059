import { chmodSync, linkSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, truncateSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { openTar } from '../../../src/image/read-tar';
import { MiB } from '../../../src/units';
import { seededBytes } from './golden';
import { contents, entry, program, readAll, tar } from './tar-builder';

const directory = mkdtempSync(join(tmpdir(), 'loopbox-tar-'));
afterAll(() => rmSync(directory, { recursive: true }));

const second = 1_000_000_000n;

describe('openTar', () => {
  it('reads what GNU tar writes, in each of its formats', async () => {
    const root = join(directory, 'root');
    mkdirSync(join(root, 'd/e'), { recursive: true });
    writeFileSync(join(root, 'd/file'), seededBytes(1, 2_500_000));
    writeFileSync(join(root, 'd/ümlaut name'), 'x');
    chmodSync(join(root, 'd/ümlaut name'), 0o2750);
    linkSync(join(root, 'd/file'), join(root, 'd/hard'));
    symlinkSync('/etc/passwd', join(root, 'd/e/link'));
    utimesSync(join(root, 'd/ümlaut name'), 1_600_000_000.5, 1_600_000_000.5);
    for (const format of ['gnu', 'pax', 'ustar', 'oldgnu']) {
      const path = join(directory, `${format}.tar`);
      program('tar', ['-C', root, `--format=${format}`, '--sort=name', '-cf', path, '.']);
      const entries = [];
      await using source = await openTar(path);
      for await (const batch of source.entries()) entries.push(...batch);
      const names = entries.filter(({ append }) => !append).map(({ path, type, target }) => [path, type, target]);
      expect(names).toEqual([
        ['.', 'directory', undefined],
        ['d', 'directory', undefined],
        ['d/e', 'directory', undefined],
        ['d/e/link', 'symlink', '/etc/passwd'],
        ['d/file', 'file', undefined],
        ['d/hard', 'hardlink', 'd/file'],
        ['d/ümlaut name', 'file', undefined],
      ]);
      expect(contents(entries).get('d/file')?.equals(seededBytes(1, 2_500_000))).toBe(true);
      expect(entries.at(-1)).toMatchObject({ mode: 0o2750, mtimeNs: 1_600_000_000n * second + (format === 'pax' ? second / 2n : 0n) });
    }
  });

  it('refuses what GNU tar stores as sparse, in each of its formats', async () => {
    const path = join(directory, 'sparse');
    writeFileSync(path, 'data');
    truncateSync(path, 10 * MiB);
    for (const format of ['gnu', 'pax', 'oldgnu']) {
      const archive = program('tar', ['-C', directory, `--format=${format}`, '-S', '-cf', '-', 'sparse']);
      await expect(readAll(archive)).rejects.toMatchObject({
        code: 'ERR_LOOPBOX_NOT_SUPPORTED',
        message: expect.stringContaining('sparse file'),
      });
    }
  });

  it('names what is not there, and what is a directory', async () => {
    await expect(openTar(join(directory, 'none'))).rejects.toMatchObject({ code: 'ERR_LOOPBOX_NOT_FOUND' });
    await expect(openTar(directory)).rejects.toMatchObject({
      code: 'ERR_LOOPBOX_NOT_SUPPORTED',
      message: `Cannot import "${directory}": it is a directory`,
    });
  });

  it('may be closed unread, and twice', async () => {
    const path = join(directory, 'unread.tar');
    writeFileSync(path, tar(entry({ name: 'a' })));
    await using source = await openTar(path);
    await source.close();
    await source.close();
  });
});
