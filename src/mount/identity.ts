import { constants } from 'node:fs';
import { explain, isSystemError } from '../errors';
import { native } from '../native';
import { newUuid } from '../uuid';
import type { Mount } from './mount-image';
import type { Tree } from './tree';

const machineIds = ['/etc/machine-id', '/var/lib/dbus/machine-id'];
/** What a machine must not share with another, and makes anew where it is missing. */
const secrets = ['/var/lib/systemd/random-seed', '/var/lib/urandom/random-seed', '/var/lib/systemd/credential.secret'];
const hostKey = /^ssh_host_.*key(\.pub)?$/;

/**
 * Makes a copied file system one of its own: a new file-system uuid, machine-id emptied (the next boot fills it), the host name
 * written where there is /etc. Returns whether the uuid could be set: not while mounted, where checksums depend on it
 * (no `metadata_csum_seed`; then `tune2fs -U random` on the file is what does it) or before Linux 6.0.
 */
export async function giveNewIdentity(mount: Mount, { hostname }: { hostname: string }): Promise<{ hasNewUuid: boolean }> {
  try {
    const hasNewUuid = await setNewUuid(mount);
    for (const path of machineIds) await emptyFile(mount.tree, path);
    await writeHostname(mount.tree, hostname);
    return { hasNewUuid };
  } catch (error) {
    throw explain(error, `give "${hostname}" an identity of its own`);
  }
}

/** A link that leads nowhere, a fifo, a device in its place would take no text: they are replaced. */
async function writeHostname(tree: Tree, hostname: string): Promise<void> {
  if (!(await tree.stat('/etc'))?.isDirectory()) return;
  const there = await tree.stat('/etc/hostname', { follow: false });
  if (there?.isDirectory()) return;
  if (there && !there.isFile()) await tree.remove('/etc/hostname');
  await tree.writeText('/etc/hostname', `${hostname}\n`, 0o644);
}

async function setNewUuid(mount: Mount): Promise<boolean> {
  const uuid = Buffer.from(newUuid().replaceAll('-', ''), 'hex');
  try {
    await mount.tree.use('.', constants.O_RDONLY, (fd) => native().setFileSystemUuid(fd, uuid));
    return true;
  } catch (error) {
    if (isSystemError(error, 'EOPNOTSUPP', 'ENOTTY')) return false;
    throw error;
  }
}

/** Takes out what every container made from a template must have for itself. Returns the paths that were emptied or removed. */
export async function cleanIdentity(mount: Mount): Promise<string[]> {
  const { tree } = mount;
  const cleaned: string[] = [];
  try {
    for (const path of machineIds) if (await emptyFile(tree, path)) cleaned.push(path);
    const hostKeys = (await tree.readDirectory('/etc/ssh')).filter((name) => hostKey.test(name)).map((name) => `/etc/ssh/${name}`);
    for (const path of [...hostKeys, ...secrets, '/etc/hostname']) {
      if (!(await isFile(tree, path))) continue;
      await tree.remove(path);
      cleaned.push(path);
    }
  } catch (error) {
    throw explain(error, 'clean the identity');
  }
  return cleaned;
}

/** A machine-id that is a symlink (to the other one, or to /run) follows its target. */
async function emptyFile(tree: Tree, path: string): Promise<boolean> {
  const stats = await tree.stat(path, { follow: false });
  if (!stats?.isFile() || stats.size === 0) return false;
  await tree.writeText(path, '', 0o444);
  return true;
}

async function isFile(tree: Tree, path: string): Promise<boolean> {
  return (await tree.stat(path, { follow: false }))?.isFile() ?? false;
}
