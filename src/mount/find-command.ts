import { fstatSync, readlinkSync } from 'node:fs';
import { LoopboxError } from '../errors';
import { isNothingThere, O_PATH, type Tree } from './tree';

export interface FindOptions {
  /** PATH of the process to be. */
  path: string;
  /** Its working directory, absolute: what relative commands and relative parts of PATH stand on. */
  workdir: string;
}

/**
 * Looks a command up as execvp(3) would and returns the path of the file behind all symlinks. Throws
 * ERR_LOOPBOX_COMMAND_NOT_FOUND (127), and ERR_LOOPBOX_NOT_EXECUTABLE (126) where all that was found is a directory or not executable.
 */
export async function findCommand(tree: Tree, command: string, { path, workdir }: FindOptions): Promise<string> {
  let found = false;
  for (const candidate of candidates(command, path, workdir)) {
    const file = await lookAt(tree, candidate);
    if (file?.isExecutable) return file.path;
    found ||= file !== undefined;
  }
  if (found) throw new LoopboxError('ERR_LOOPBOX_NOT_EXECUTABLE', `Cannot run "${command}": it is not an executable file in the container`);
  throw new LoopboxError('ERR_LOOPBOX_COMMAND_NOT_FOUND', `Cannot run "${command}": the container has no such command`);
}

function candidates(command: string, path: string, workdir: string): string[] {
  if (command === '') return [];
  // No path.join: it would take `link/..` for nothing.
  const absolute = (place: string) => (place.startsWith('/') ? place : `${workdir}/${place}`);
  if (command.includes('/')) return [absolute(command)];
  return path.split(':').map((directory) => `${absolute(directory)}/${command}`);
}

async function lookAt(tree: Tree, path: string): Promise<{ path: string; isExecutable: boolean } | undefined> {
  try {
    return await tree.use(path, O_PATH, (fd) => {
      // Of what is open already the kernel has all of this in memory.
      const stats = fstatSync(fd);
      return { path: readlinkSync(`/proc/self/fd/${fd}`), isExecutable: stats.isFile() && (stats.mode & 0o111) !== 0 };
    });
  } catch (error) {
    if (isNothingThere(error)) return undefined;
    throw error;
  }
}
