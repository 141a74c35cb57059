import { describe, expect, it } from 'vitest';
import { execute, shell, TestStore } from '../fixtures';
import { outsideOfDisk } from '../image-view';
import { createWeb, inside, wishedLimits, write } from '../web-container';

describe('stock resize2fs', () => {
  it('finds nothing to grow into', async () => {
    const store = await TestStore.create();
    await store.importBusybox('busybox', '--size', '128M');
    for (const [name, ...flags] of [
      ['web', '--full'],
      ['sized', '--full', '--size', '300M'],
    ] as [string, ...string[]][]) {
      await store.done('create', name, '--template', 'busybox', ...flags);
      const image = store.imageOf(name);
      const before = outsideOfDisk(image);
      // Without a check it may refuse; with one it looks.
      await execute('resize2fs', [image]);
      expect((await resize(image)).stderr).toContain('Nothing to do!');
      expect(outsideOfDisk(image)).toEqual(before);
      expect(await store.inspect(name)).toMatchObject({ state: 'created', sizeBytes: before.size - 64 * 1024 });
    }
  });

  it('that was given more room is told from a damage, and import --rescue is the way back', async () => {
    const store = await TestStore.create();
    await store.importBusybox('busybox', '--size', '128M');
    await createWeb(store, '--full');
    await store.done('start', 'web');
    await write(store, 'web', 'apples');
    await store.done('stop', '-t', '0', 'web');
    const file = store.imageOf('web');

    await shell('truncate', '-s', '+1G', file);
    // The manifest lies where it lay: as yet nothing is lost.
    expect(await store.inspect('web')).toMatchObject({ state: 'stopped', limits: wishedLimits });
    await shell('e2fsck', '-fp', file);
    await resize(file);

    for (const verb of ['start', 'set', 'export']) {
      const args = [verb, 'web', ...({ set: ['--pids', '50'], export: [`${file}.raw`] }[verb] ?? [])];
      const result = await store.loopbox(args);
      expect(result, verb).toMatchObject({ code: 13, stdout: '' });
      expect(result.stderr).toMatch(/has outgrown it|its manifest is lost/);
      expect(result.stderr).toContain(`hint: loopbox import --rescue ${file}`);
    }
    expect(await store.inspect('web')).toMatchObject({ state: 'failed', reason: expect.stringMatching(/outgrown|lost/) });
    expect(await store.loopbox(['import', file, 'other'])).toMatchObject({ code: 13 });

    expect(await store.loopbox(['import', '--rescue', file, 'rescued'])).toMatchObject({
      code: 0,
      stdout: expect.stringMatching(/^rescued: 1\.\d GiB\n$/),
    });
    expect(await store.inspect('rescued')).toMatchObject({ state: 'created', limits: {} });
    await store.done('set', 'rescued', '--', 'sleep', '1000');
    await store.done('start', 'rescued');
    expect(await inside(store, 'rescued', 'cat /var/lib/data')).toBe('apples');
    expect(Number(await inside(store, 'rescued', "df -m / | awk 'NR == 2 { print $2 }'"))).toBeGreaterThan(1000);
    await store.done('rm', '-f', 'rescued', 'web');
  });
});

/** resize2fs wants a check after every mount. */
async function resize(image: string) {
  await shell('e2fsck', '-fp', image);
  return execute('resize2fs', [image]);
}
