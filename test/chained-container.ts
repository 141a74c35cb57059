import { changeDisk } from './chain-view';
import { TestStore } from './store';

/** A store with the template `busybox` and the stopped container `web`: an image, `web@mon` and `web@tue` below its present, each with files of its own. */
export async function chainedContainer(directory?: string): Promise<TestStore> {
  const store = await TestStore.create(directory);
  await store.importBusybox('busybox', '--size', '128M');
  await store.createBusybox('web', '--full', '--attach', 'stack', '-e', 'GREETING=hello', '--', 'sleep', '1000');
  await changeDisk(store, 'web', 'head -c 300000 /dev/urandom > root/first; echo monday > root/day');
  await store.done('snapshot', 'create', 'web@mon');
  await changeDisk(store, 'web', 'rm root/first; head -c 200000 /dev/urandom > root/second; echo tuesday > root/day');
  await store.done('snapshot', 'create', 'web@tue');
  await changeDisk(store, 'web', 'mkdir root/new; echo now > root/day');
  return store;
}
