import { copyFile, mkdir, readFile, rm } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { execute, shell } from './execute';
import { temporaryDirectory } from './temporary';

/** A file as `describe-tree.py` tells of it: type, mode, owner, time, content's checksum, target, device, attributes, hard links. */
export interface TreeEntry {
  type: string;
  mtimeNs: string;
  [key: string]: unknown;
}

/** All files below `root` (`.` included), by path, bytes as Latin-1. */
export async function describeTree(root: string): Promise<Map<string, TreeEntry>> {
  const entries = JSON.parse(await shell('/usr/bin/python3', join(import.meta.dirname, 'describe-tree.py'), root)) as Record<
    string,
    TreeEntry
  >;
  return new Map(Object.entries(entries));
}

/** The tree in an image as stock tools mount it, without the `lost+found` that mke2fs makes. */
export async function describeImage(path: string): Promise<Map<string, TreeEntry>> {
  const tree = await mounted(path, 'loop,ro', describeTree);
  const found = tree.get('lost+found');
  if (found?.type === 'directory' && found.mode === '0o700') tree.delete('lost+found');
  return tree;
}

/** Mounts an image by stock tools for the time of `body`. */
export async function mounted<T>(path: string, options: string, body: (target: string) => Promise<T>): Promise<T> {
  const target = join(await temporaryDirectory(), 'mount');
  await mkdir(target);
  await shell('mount', '-o', options, path, target);
  try {
    return await body(target);
  } finally {
    await shell('umount', target);
  }
}

const unpackArguments = ['-xpf', '-', '--numeric-owner', '--xattrs', '--xattrs-include=*'];

/** Unpacks an archive by GNU tar into the empty directory `root`. */
export async function unpack(archive: string, root: string): Promise<void> {
  await shell('sh', '-c', 'archive=$1; shift; exec tar "$@" < "$archive"', 'sh', archive, '-C', root, ...unpackArguments);
}

/** As `unpack`, but in a chroot and with absolute names: no link leads out of `root`. Tells whether tar took all of it. */
export async function unpackInChroot(archive: string, root: string): Promise<boolean> {
  const tools = join(root, '.tools');
  await mkdir(tools);
  for (const path of await programAndLibraries('/usr/bin/tar')) await copyFile(path, join(tools, basename(path)));
  const loader = ['/.tools/ld-linux-x86-64.so.2', '--library-path', '/.tools', '/.tools/tar'];
  const result = await execute('chroot', [root, ...loader, '-P', ...unpackArguments], { input: await readFile(archive) });
  await rm(tools, { recursive: true, force: true });
  return result.code === 0;
}

async function programAndLibraries(program: string): Promise<string[]> {
  const paths = (await shell('ldd', program)).matchAll(/(\/\S+) \(0x/g);
  return [program, ...[...paths].map(([, path = '']) => path)];
}
