// Gives the disk of a container that runs more room: node grow.js NAME BYTES. Its file system is the caller's to grow.
import { open } from 'node:fs/promises';
import { Store } from '../../src/container/store';
import { growContainer } from '../grow-container';

async function main([name = '', bytes]: string[]): Promise<void> {
  const store = new Store();
  const record = store.runDirectory(name).readRecord();
  if (!record) throw new Error(`"${name}" does not run`);
  await using loop = await open(`/dev/loop${record.loop.index}`, 'r+');
  await growContainer(store, name, Number(bytes), loop.fd);
}

void main(process.argv.slice(2));
