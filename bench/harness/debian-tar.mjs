import { existsSync, mkdirSync, renameSync } from 'node:fs';
import { join } from 'node:path';
import { output } from './command.mjs';

/** The tar of a Debian 12 minbase root file system: made once, kept in `directory`. */
export function debianTar(directory) {
  const path = join(directory, 'debian-12.tar');
  if (existsSync(path)) return path;
  mkdirSync(directory, { recursive: true });
  console.error('bench: making Debian 12 with mmdebstrap (about 20 s) …');
  output('mmdebstrap', ['--quiet', '--variant=minbase', 'bookworm', `${path}.part.tar`]);
  renameSync(`${path}.part.tar`, path);
  return path;
}
