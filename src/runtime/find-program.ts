import { accessSync, constants, statSync } from 'node:fs';
import { isAbsolute, join } from 'node:path';
import { isSystemError } from '../errors';
import { missingProgram, programEnvironment } from '../process';

/** The absolute path of a program given by name or path. Throws ERR_LOOPBOX_NOT_SUPPORTED where it is not installed. */
export function findProgram(nameOrPath: string): string {
  if (nameOrPath.includes('/')) {
    if (isAbsolute(nameOrPath) && isProgram(nameOrPath)) return nameOrPath;
    throw missingProgram(nameOrPath);
  }
  for (const directory of (programEnvironment().PATH ?? '').split(':')) {
    const path = join(directory, nameOrPath);
    if (isAbsolute(path) && isProgram(path)) return path;
  }
  throw missingProgram(nameOrPath);
}

function isProgram(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return statSync(path).isFile();
  } catch (error) {
    if (isSystemError(error)) return false;
    throw error;
  }
}
