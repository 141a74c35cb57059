import type { Command } from 'commander';
import type { Context } from './context';

export interface VerbModule {
  register(program: Command, context: Context): void;
}

/** Every verb and the file that it is in, loaded when it is called. Their order is that of the help. */
export const verbs = {
  template: () => import('./template'),
  create: () => import('./create'),
  start: () => import('./start'),
  stop: () => import('./stop'),
  kill: () => import('./kill'),
  restart: () => import('./restart'),
  wait: () => import('./wait'),
  run: () => import('./run'),
  exec: () => import('./exec'),
  enter: () => import('./enter'),
  ls: () => import('./ls'),
  ps: () => import('./ps'),
  inspect: () => import('./inspect'),
  logs: () => import('./logs'),
  set: () => import('./set'),
  rename: () => import('./rename'),
  rm: () => import('./rm'),
  snapshot: () => import('./snapshot'),
  clone: () => import('./clone'),
  files: () => import('./files'),
  flatten: () => import('./flatten'),
  settle: () => import('./settle'),
  export: () => import('./export'),
  import: () => import('./import'),
  check: () => import('./check'),
  map: () => import('./map'),
  df: () => import('./df'),
  info: () => import('./info'),
} satisfies Record<string, () => Promise<VerbModule>>;
