import { readdirSync } from 'node:fs';
import { mkdir, open, readFile, symlink, writeFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { tryLock } from '../../src/flock';
import { makeFileSystem } from '../../src/image/make-filesystem';
import { NewFile, renameDurably } from '../../src/image/new-file';
import { MiB } from '../../src/units';
import { newUuid } from '../../src/uuid';
import { shell, temporaryDirectory } from '../fixtures';
import { recipeImage } from './whole-images';

describe('NewFile', () => {
  it('leaves nothing when it is dropped', async () => {
    const place = await temporaryDirectory();
    {
      await using file = await NewFile.create(place);
      await makeFileSystem(file.fd, 128 * MiB);
      await file.close();
    }
    expect(readdirSync(place)).toEqual([]);
  });

  it('gets its name once, and replaces nothing', async () => {
    const place = await temporaryDirectory();
    const path = join(place, 'a');
    await using first = await NewFile.create(place);
    await first.publish(path);
    await using second = await NewFile.create(dirname(path));
    await expect(second.publish(path)).rejects.toMatchObject({ code: 'EEXIST', syscall: 'linkat' });
    await expect(NewFile.create(join(place, 'none'))).rejects.toMatchObject({ code: 'ENOENT' });
    expect(readdirSync(place)).toEqual(['a']);
  });

  it('takes away what a killed replacement has left, and nothing else', async () => {
    const place = await temporaryDirectory();
    const names = Array.from({ length: 4 }, () => `.tmp-${newUuid()}`);
    const [left = '', used = '', foreign = '', link = ''] = names.map((name) => join(place, name));
    await shell('cp', '--sparse=always', await recipeImage(), left);
    await shell('cp', '--sparse=always', await recipeImage(), used);
    await writeFile(foreign, 'mine');
    await symlink(used, link);
    await writeFile(join(place, '.tmp-x'), 'mine');
    await using holder = await open(used, 'r');
    expect(tryLock(holder.fd, 'exclusive')).toBe(true);
    await using file = await NewFile.create(place);
    await file.replace(join(place, 'a'));
    expect(readdirSync(place).sort()).toEqual(['.tmp-x', basename(used), basename(foreign), basename(link), 'a'].sort());
  });

  it('is renamed without replacing', async () => {
    const place = await temporaryDirectory();
    await writeFile(join(place, 'a'), '1');
    await writeFile(join(place, 'b'), '2');
    await expect(renameDurably(join(place, 'a'), join(place, 'b'))).rejects.toMatchObject({ code: 'EEXIST' });
    await mkdir(join(place, 'd'));
    await renameDurably(join(place, 'a'), join(place, 'd/c'));
    expect(await readFile(join(place, 'd/c'), 'utf8')).toBe('1');
  });
});
