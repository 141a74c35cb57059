import { existsSync } from 'node:fs';
import { chmod, chown, copyFile, mkdir, rename, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { inject } from 'vitest';
import { shell } from './execute';

/** The user `alice` of `busyboxTar`; in the group `staff` too. */
export const alice = { uid: 1000, gid: 1000, groups: [1000, 50], home: '/home/alice' };

const files: Record<string, string> = {
  'etc/passwd': 'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\nalice:x:1000:1000:Alice:/home/alice:/bin/sh\n',
  'etc/group': 'root:x:0:\nstaff:x:50:alice\nalice:x:1000:\nnogroup:x:65534:\n',
  'etc/hostname': 'busybox\n',
  'etc/machine-id': '0123456789abcdef0123456789abcdef\n',
  'etc/os-release': 'ID=busybox\nPRETTY_NAME="Busybox"\n',
};

/** The path of a tar with a small root file system: busybox with all its links in /bin, no /sbin/init. Made once per run. */
export async function busyboxTar(): Promise<string> {
  const directory = inject('runDirectory');
  const tar = join(directory, 'busybox.tar');
  if (existsSync(tar)) return tar;
  const root = join(directory, 'busybox');
  for (const path of ['bin', 'sbin', 'dev', 'etc', 'proc', 'run', 'sys', 'usr/bin', 'var/lib', 'var/log', 'home/alice']) {
    await mkdir(join(root, path), { recursive: true });
  }
  await mkdir(join(root, 'root'));
  await chmod(join(root, 'root'), 0o700);
  await mkdir(join(root, 'tmp'));
  await chmod(join(root, 'tmp'), 0o1777);
  await chown(join(root, 'home/alice'), alice.uid, alice.gid);
  for (const [path, content] of Object.entries(files)) await writeFile(join(root, path), content);
  const busybox = join(root, 'bin/busybox');
  await copyFile(existsSync('/usr/bin/busybox') ? '/usr/bin/busybox' : '/bin/busybox', busybox);
  const applets = (await shell(busybox, '--list')).split('\n').filter((name) => !['busybox', 'init', 'linuxrc'].includes(name));
  for (const name of applets) await symlink('busybox', join(root, 'bin', name));
  await shell('tar', '-C', root, '--sort=name', '--numeric-owner', '-cf', `${tar}.part`, '.');
  await rename(`${tar}.part`, tar);
  return tar;
}
