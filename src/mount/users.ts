import { LoopboxError } from '../errors';
import type { Tree } from './tree';

export interface User {
  uid: number;
  gid: number;
  /** Supplementary groups, without `gid`. */
  groups: number[];
  home: string;
  /** The name, where /etc/passwd has one. */
  name: string | undefined;
}

interface PasswdEntry {
  name: string;
  uid: number;
  gid: number;
  home: string;
}

interface GroupEntry {
  name: string;
  gid: number;
  members: string[];
}

/**
 * The user that a process in the container runs as. `spec` is `USER` or `USER:GROUP`, each a name or a number; a name is tried
 * first. A number needs no entry in /etc/passwd (group 0 and home `/` then); with a group given there are no supplementary groups.
 * Throws ERR_LOOPBOX_NOT_FOUND for an unknown name.
 */
export async function lookUpUser(tree: Tree, spec: string): Promise<User> {
  const [passwd, group] = await Promise.all([tree.readText('/etc/passwd'), tree.readText('/etc/group')]);
  return resolveUser(spec, parsePasswd(passwd ?? ''), parseGroup(group ?? ''));
}

/** `lookUpUser` on parsed files. */
export function resolveUser(spec: string, passwd: PasswdEntry[], groups: GroupEntry[]): User {
  const [userText = '', groupText, ...rest] = spec.split(':');
  if (rest.length > 0 || userText === '') throw notFound(spec, 'write USER or USER:GROUP');
  const number = parseId(userText);
  const entry = passwd.find(({ name }) => name === userText) ?? passwd.find(({ uid }) => uid === number);
  const uid = entry?.uid ?? number;
  if (uid === undefined) throw notFound(userText, 'the container has no such user in /etc/passwd');
  const user = { uid, home: entry?.home || '/', name: entry?.name };
  if (groupText) return { ...user, gid: resolveGroup(groupText, groups), groups: [] };
  const gid = entry?.gid ?? 0;
  const supplementary = groups.filter((group) => entry && group.gid !== gid && group.members.includes(entry.name));
  return { ...user, gid, groups: [...new Set(supplementary.map((group) => group.gid))] };
}

function resolveGroup(text: string, groups: GroupEntry[]): number {
  const gid = groups.find(({ name }) => name === text)?.gid ?? parseId(text);
  if (gid === undefined) throw notFound(text, 'the container has no such group in /etc/group');
  return gid;
}

/** passwd(5); lines that are none are skipped, as libc does. */
export function parsePasswd(text: string): PasswdEntry[] {
  return text.split('\n').flatMap((line) => {
    const [name, , uidText, gidText, , home] = line.split(':');
    const uid = parseId(uidText);
    const gid = parseId(gidText);
    return name && !name.startsWith('#') && uid !== undefined && gid !== undefined ? [{ name, uid, gid, home: home ?? '' }] : [];
  });
}

/** group(5) */
export function parseGroup(text: string): GroupEntry[] {
  return text.split('\n').flatMap((line) => {
    const [name, , gidText, members] = line.split(':');
    const gid = parseId(gidText);
    return name && !name.startsWith('#') && gid !== undefined ? [{ name, gid, members: members?.split(',').filter(Boolean) ?? [] }] : [];
  });
}

/** Ids go to 2^32 - 2: the last one means "leave it as it is" to the kernel. */
function parseId(text: string | undefined): number | undefined {
  if (text === undefined || !/^\d{1,10}$/.test(text)) return undefined;
  const id = Number(text);
  return id < 2 ** 32 - 1 ? id : undefined;
}

function notFound(what: string, state: string): LoopboxError {
  return new LoopboxError('ERR_LOOPBOX_NOT_FOUND', `Cannot find "${what}": ${state}`);
}
