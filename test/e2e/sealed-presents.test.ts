import { linkSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { changeDisk, contentOfState, manifestOf } from '../chain-view';
import { shell, temporaryDirectory } from '../fixtures';
import { checksum } from '../image-view';
import { storeWithSleeper } from '../sleeper';
import { containerFiles } from '../truth';
import { inside } from '../web-container';

describe('a present that is sealed because others stand on it', () => {
  it('got a state that no copy from before has, and keeps what they need, whatever is done with its container', async () => {
    const store = await storeWithSleeper('web', '--full', '--attach', 'stack');
    await changeDisk(store, 'web', 'echo apples > root/fruit');
    const { containerId } = await store.inspect('web');
    const copy = join(await temporaryDirectory(), 'copy.img');
    await shell('cp', store.imageOf('web'), copy);
    await store.done('clone', '--linked', 'web', 'linked');
    expect(manifestOf(store.imageOf('web'))).toMatchObject({ sealed: {} });
    expect(manifestOf(store.imageOf('web'))).not.toMatchObject({ state: manifestOf(copy)['state'] });
    const before = await contentOfState(store, 'linked');

    await store.done('set', 'web', '-e', 'GREETING=hello');
    await store.done('rename', 'web', 'other');
    expect(await contentOfState(store, 'linked')).toBe(before);
    await store.done('start', 'other');
    expect(await inside(store, 'other', 'echo $GREETING; cat /root/fruit; echo pears > /root/fruit')).toBe('hello\napples');
    await store.done('stop', '-t', '0', 'other');
    expect(await contentOfState(store, 'linked')).toBe(before);
    expect((await store.inspect('other')).containerId).toBe(containerId);
  });

  it('is opened again when nobody stands on it any more, and is who it was', async () => {
    const store = await storeWithSleeper('web', '--full', '--attach', 'stack');
    const { containerId } = await store.inspect('web');
    await store.done('clone', '--linked', 'web', 'linked');
    await store.done('rm', 'linked');
    await store.done('start', 'web');
    const machineId = await inside(store, 'web', 'cat /etc/machine-id /etc/hostname');
    await store.done('stop', '-t', '0', 'web');
    expect(containerFiles(store)).toEqual(['web.img']);
    expect(manifestOf(store.imageOf('web'))).not.toHaveProperty('sealed');
    expect((await store.inspect('web')).containerId).toBe(containerId);
    await store.done('start', 'web');
    expect(await inside(store, 'web', 'cat /etc/machine-id /etc/hostname')).toBe(machineId);
    await store.done('rm', '-f', 'web');
  });

  it('starts although a backup has the same file, which stays as it is', async () => {
    const store = await storeWithSleeper('web', '--full', '--attach', 'stack');
    const { containerId } = await store.inspect('web');
    await store.done('clone', '--linked', 'web', 'linked');
    await store.done('rm', 'linked');
    const backup = join(store.root, 'backup.img');
    linkSync(store.imageOf('web'), backup);
    const before = await checksum(backup);
    await store.done('start', 'web');
    await inside(store, 'web', 'echo pears > /root/fruit');
    await store.done('stop', '-t', '0', 'web');
    expect(await checksum(backup)).toBe(before);
    expect((await store.inspect('web')).containerId).toBe(containerId);
    await store.done('rm', 'web');
  });
});
