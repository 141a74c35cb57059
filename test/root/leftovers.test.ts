import { spawn } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { cleanUp, execute, expectNothingLeft, leftSince, shell, snapshotOfLeftovers, temporaryDirectory } from '../fixtures';

/** The guard against leftovers is worth something only if it sees them. */
describe('the snapshot of the host', () => {
  it('sees a loop device, a mount and a temporary file come and go', async () => {
    const before = snapshotOfLeftovers();
    const image = join(await temporaryDirectory(), 'image');
    await shell('truncate', '-s', '1M', image);
    const loop = await shell('losetup', '-f', '--show', image);
    cleanUp(async () => void (await execute('losetup', ['-d', loop])));
    const target = join(dirname(image), 'mount');
    await shell('mkdir', target);
    await shell('mount', '-t', 'tmpfs', 'none', target);
    cleanUp(async () => void (await execute('umount', [target])));
    expect(await leftSince(before, 0)).toEqual(
      expect.arrayContaining([
        expect.stringMatching(`^loop device ${basename(loop).slice(4)} \\(use \\d+\\) on ${image}$`),
        expect.stringMatching(`^mount \\d+ of .* at ${target}$`),
        `temporary file ${basename(dirname(image))}`,
      ]),
    );
    await shell('umount', target);
    await shell('losetup', '-d', loop);
    await rm(dirname(image), { recursive: true });
    await expectNothingLeft(before);
  });

  it('sees a process in a network namespace of its own, and a cgroup', async () => {
    const before = snapshotOfLeftovers();
    const sleeper = spawn('unshare', ['-n', 'sleep', '60']);
    cleanUp(() => void sleeper.kill('SIGKILL'));
    const hierarchy = (await shell('findmnt', '-rno', 'TARGET', '-t', 'cgroup,cgroup2')).split('\n')[0] ?? '';
    const cgroup = join(hierarchy, 'loopbox', 'leftovers-test');
    mkdirSync(cgroup, { recursive: true });
    await expect
      .poll(() => leftSince(before, 0))
      .toEqual(expect.arrayContaining([`cgroup ${cgroup}`, expect.stringMatching(/^process \d+ \(sleep/)]));
    sleeper.kill('SIGKILL');
    await shell('rmdir', '-p', '--ignore-fail-on-non-empty', cgroup);
    await expectNothingLeft(before);
  });
});
