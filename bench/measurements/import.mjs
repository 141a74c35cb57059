import { mkdirSync, rmSync } from 'node:fs';
import { time } from '../harness/command.mjs';
import { alternate, goal, row } from '../harness/samples.mjs';
import { settle } from '../harness/workspace.mjs';

const stock = `
truncate -s 10G "$1/stock.img"
mkfs.ext4 -q "$1/stock.img"
mount -o loop "$1/stock.img" "$1/mount"
tar -C "$1/mount" -xf "$2"
umount "$1/mount"`;

/** `template import` of a Debian root file system, beside the stock tools that a shell script would use. */
export async function measure(workspace) {
  const tar = workspace.debianTar();
  const { directory } = workspace;
  const store = workspace.store();
  mkdirSync(workspace.path('mount'));
  const script = (text) => ({
    prepare: () => settle(directory),
    run: () => time('sh', ['-ec', text, 'sh', directory, tar]),
    after: () => rmSync(workspace.path('stock.img')),
  });
  const samples = await alternate(
    {
      stock: script(stock),
      durable: script(`${stock}\nsync "$1/stock.img"`),
      loopbox: {
        prepare: () => settle(directory),
        run: () => store.time('template', 'import', 'debian', tar),
        after: () => store.loopbox('template', 'rm', 'debian'),
      },
    },
    workspace.rounds(9),
  );
  const reference = samples.stock;
  const rows = [
    row('mkfs, mount, GNU tar, umount', samples.stock),
    row('the same, then `sync FILE`', samples.durable, { reference }),
    row('`loopbox template import`', samples.loopbox, { reference }),
  ];
  return { title: 'Import of a Debian minbase tar', rows, goals: [goal('beside mkfs, mount, tar, umount', rows[2].ratio, 1.5)] };
}
