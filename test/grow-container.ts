import type { Store } from '../src/container/store';
import { workOn } from '../src/container/work';
import { growDelta } from '../src/image/grow-delta';
import { growImage } from '../src/image/grow-image';
import { openLayer } from '../src/image/layer-file';
import { StackControl } from '../src/loop/stack-control';
import { native } from '../src/native';

/**
 * Gives a container's disk more room: first its file, then, if it is attached, the server and the device, which is open as `loopFd`. Its file system
 * is as large as before.
 */
export async function growContainer(store: Store, name: string, sizeBytes: number, loopFd?: number): Promise<void> {
  await using work = await workOn(store, name, 'grow');
  await using top = await openLayer(work.target.path, { write: true });
  await (top.kind === 'delta' ? growDelta(top, sizeBytes) : growImage(top, sizeBytes));
  if (loopFd === undefined) return;
  await new StackControl(work.target.directory.controlPath, name).grow(sizeBytes);
  await native().loopResize(loopFd, sizeBytes);
}
