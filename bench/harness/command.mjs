import { execFileSync, spawnSync } from 'node:child_process';

/** Runs a program to its end, which must be 0, and returns how many milliseconds it took. */
export function time(command, args, options = {}) {
  const begin = process.hrtime.bigint();
  const { status, signal, stderr, error } = spawnSync(command, args, { stdio: ['ignore', 'ignore', 'pipe'], ...options });
  const ms = Number(process.hrtime.bigint() - begin) / 1e6;
  if (error) throw error;
  if (status !== 0) throw new Error(`"${command} ${args.join(' ')}" ended with ${signal ?? status}: ${String(stderr)}`);
  return ms;
}

/** The standard output, trimmed, of a program that must end with 0. */
export function output(command, args, options = {}) {
  return execFileSync(command, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'], maxBuffer: 2 ** 26, ...options }).trim();
}

/** The first line of what a program says, or `missing`. */
export function firstLine(command, ...args) {
  const { stdout, stderr, error } = spawnSync(command, args, { encoding: 'utf8' });
  return error ? 'missing' : (stdout || stderr).split('\n', 1)[0].trim();
}
