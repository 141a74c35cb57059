import { copyFile, mkdir, readdir, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { packageDirectory } from '../../src/package';
import { temporaryDirectory } from '../temporary';

/** The path of a bin/loopbox that is this one, but whose storage server is recorded, too: it has this environment. */
export async function recordedProgram(environment: Record<string, string>): Promise<string> {
  const place = await temporaryDirectory();
  for (const name of ['dist', 'node_modules', 'package.json']) await symlink(join(packageDirectory, name), join(place, name));
  await mkdir(join(place, 'bin'));
  await mkdir(join(place, 'build'));
  const program = join(place, 'bin/loopbox');
  await copyFile(join(packageDirectory, 'bin/loopbox'), program);
  for (const name of await readdir(join(packageDirectory, 'build'))) {
    if (name.startsWith('loopbox') && name !== 'loopbox-server')
      await symlink(join(packageDirectory, 'build', name), join(place, 'build', name));
  }
  // It is started with a plain environment, and is the same process after the exec.
  const variables = Object.entries(environment).map(([key, value]) => `export ${key}='${value}'\n`);
  const server = join(packageDirectory, 'build/test/recorded-server');
  await writeFile(join(place, 'build/loopbox-server'), `#!/bin/sh\n${variables.join('')}exec '${server}' "$@"\n`, { mode: 0o755 });
  return program;
}
