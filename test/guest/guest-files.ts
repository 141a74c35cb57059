import { copyFile, cp, mkdir, realpath, rm, symlink, truncate, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { build } from 'esbuild';
import { inject } from 'vitest';
import { busyboxTar } from '../busybox-tar';
import { shell } from '../execute';
import { MiB } from '../../src/units';
import type { GuestKernel } from './kernels';

const checkout = join(import.meta.dirname, '../..');

/** What of this checkout a guest finds in /loopbox. */
const product = [
  'bin',
  'build/loopbox.node',
  'build/loopbox-attach',
  'build/loopbox-freeze',
  'build/loopbox-oci',
  'build/loopbox-server',
  'dist/loopbox.cache',
  'dist/loopbox.js',
  'package.json',
  ...['fs-ext', 'tar-stream', 'streamx', 'b4a', 'fast-fifo', 'events-universal', 'text-decoder'].map((name) => `node_modules/${name}`),
];

/** What of this host a guest has at the same places, with their libraries. */
const programs = 'conmon dash debugfs e2fsck losetup mke2fs mount resize2fs runc setpriv tune2fs umount'.split(' ');
const files = ['/usr/share/containers/seccomp.json'];

/** An ext4 image with loopbox, what it uses, and `/busybox.tar`: the disk that guests start with. Made once. */
export function guestDisk(): Promise<string> {
  disk ??= makeDisk(join(inject('runDirectory'), 'guest'));
  return disk;
}

let disk: Promise<string> | undefined;

async function makeDisk(root: string): Promise<string> {
  for (const path of ['dev', 'proc', 'sys', 'run', 'tmp', 'root', 'etc', 'var/lib', 'var/log'])
    await mkdir(join(root, path), { recursive: true });
  for (const name of ['bin', 'sbin', 'lib', 'lib64']) {
    await mkdir(join(root, 'usr', name), { recursive: true });
    await symlink(`usr/${name}`, join(root, name));
  }
  await installBusybox(root);
  for (const name of ['init', 'agent']) await copyFile(join(import.meta.dirname, name), join(root, name));
  await writeFile(join(root, 'etc/passwd'), 'root:x:0:0:root:/root:/bin/sh\n');
  await copyFile(await busyboxTar(), join(root, 'busybox.tar'));
  for (const path of product) {
    await cp(join(checkout, path), join(root, 'loopbox', path), { recursive: true, dereference: true });
  }
  await build({
    entryPoints: [join(import.meta.dirname, 'grow.ts')],
    outfile: join(root, 'loopbox/dist/grow.js'),
    bundle: true,
    platform: 'node',
    target: 'node20',
    external: ['fs-ext', 'tar-stream'],
  });
  await symlink('/loopbox/bin/loopbox', join(root, 'usr/bin/loopbox'));
  for (const path of await withLibraries([process.execPath, ...(await paths(programs))])) await install(path, root);
  await copyFile(process.execPath, join(root, 'usr/bin/node'));
  // That of busybox prefers its own applets to all programs.
  await rm(join(root, 'bin/sh'));
  await symlink('dash', join(root, 'bin/sh'));
  for (const path of files) await install(path, root);
  const image = `${root}.img`;
  await writeFile(image, '');
  await truncate(image, 2048 * MiB);
  await shell('mke2fs', '-q', '-t', 'ext4', '-d', root, image);
  await rm(root, { recursive: true });
  return image;
}

/** Makes the initial RAM disk of a kernel. */
export async function initialRamDisk({ version, modules }: GuestKernel): Promise<string> {
  const directory = inject('runDirectory');
  const root = join(directory, `first-${version}`);
  for (const path of ['bin', 'dev', 'root']) await mkdir(join(root, path), { recursive: true });
  await copyFile(await busybox(), join(root, 'bin/busybox'));
  await cp(modules, join(root, 'modules'), { recursive: true });
  await copyFile(join(import.meta.dirname, 'first-init'), join(root, 'init'));
  await shell('sh', '-c', `cd ${root} && find . | busybox cpio -o -H newc > ${root}.cpio`);
  return `${root}.cpio`;
}

async function busybox(): Promise<string> {
  return realpath((await paths(['busybox']))[0] ?? '');
}

async function installBusybox(root: string): Promise<void> {
  const program = join(root, 'bin/busybox');
  await copyFile(await busybox(), program);
  for (const name of (await shell(program, '--list')).split('\n')) {
    if (name !== 'busybox') await symlink('busybox', join(root, 'bin', name));
  }
}

async function paths(names: string[]): Promise<string[]> {
  const found = await shell('sh', '-c', names.map((name) => `command -v ${name}`).join(';'));
  return found.split('\n');
}

async function withLibraries(programs: string[]): Promise<string[]> {
  const listed = await shell('ldd', ...programs);
  const libraries = listed.split('\n').flatMap((line) => /(\/\S+) \(0x/.exec(line)?.[1] ?? []);
  return [...new Set([...programs, ...libraries])];
}

async function install(path: string, root: string): Promise<void> {
  const target = join(root, path);
  await mkdir(dirname(target), { recursive: true });
  await rm(target, { force: true });
  await copyFile(path, target);
}
