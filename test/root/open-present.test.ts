import { renameSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { beforeEach, describe, expect, it } from 'vitest';
import { takeVerbLock } from '../../src/container/locks';
import { openPresent } from '../../src/container/open-present';
import { Store } from '../../src/container/store';
import { namedTarget, resolveTarget } from '../../src/container/target';
import { temporaryDirectory } from '../fixtures';
import { emptyDisk, Layers } from './layers';

let store: Store;
let image: string;
let other: string;

beforeEach(async () => {
  const directory = await temporaryDirectory();
  store = new Store({ root: join(directory, 'root'), runRoot: join(directory, 'run') });
  store.prepare();
  const layers = await Layers.make(store.containersDirectory);
  await layers.image('web.img', emptyDisk());
  [image, other] = [layers.path('web.img'), layers.path('web.delta')];
});

describe('the present of a container, for who has no lock,', () => {
  it('is opened where it is now', async () => {
    const target = namedTarget(store, 'web');
    renameSync(image, other);
    await using _file = await openPresent(store, target);
    expect(target.path).toBe(other);
  });

  it('is waited for while a command works on it, and missing else', async () => {
    const away = `${image}.away`;
    renameSync(image, away);
    const target = namedTarget(store, 'web');
    await expect(openPresent(store, target)).rejects.toMatchObject({ code: 'ERR_LOOPBOX_NOT_FOUND' });
    await using _lock = await takeVerbLock(target.verbLockPath, 'web');
    const opening = openPresent(store, target);
    await sleep(30);
    renameSync(away, other);
    await using _file = await opening;
    expect(target.path).toBe(other);
  });

  it('is found where it gets another name while it is looked for', () => {
    const { interruptedNames } = store;
    store.interruptedNames = () => {
      renameSync(image, other);
      return interruptedNames.call(store);
    };
    expect(resolveTarget(store, 'web').path).toBe(other);
  });
});
