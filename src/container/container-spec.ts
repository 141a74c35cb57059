import { LoopboxError } from '../errors';
import type { Config } from '../image/manifest';
import { findCommand } from '../mount/find-command';
import type { Tree } from '../mount/tree';
import { lookUpUser } from '../mount/users';
import type { Warn } from '../progress';
import type { ContainerSpec } from '../runtime/oci-config';
import { isSignal } from '../runtime/signal-container';

const defaultPath = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

/** What the runtime is asked to run, but for the paths that the runtime's room adds. */
export type Spec = Omit<ContainerSpec, 'rootfs' | 'cgroupsPath'>;

/**
 * Turns a container's config into what the runtime runs, by a look into its file system: the command's existence, users and
 * groups, and `/sbin/init` where no command is set. Throws ERR_LOOPBOX_USAGE where there is neither, and
 * ERR_LOOPBOX_COMMAND_NOT_FOUND or ERR_LOOPBOX_NOT_EXECUTABLE for a command that can't be run.
 */
export async function containerSpec(
  tree: Tree,
  config: Config & { hostname: string },
  { label, terminal, warn }: { label: string; terminal: boolean; warn: Warn },
): Promise<{ spec: Spec; stopSignal: string }> {
  const command = config.command?.length ? config.command : await defaultCommand(tree, label);
  // By number: the smallest root file systems have no /etc/passwd.
  const user = await lookUpUser(tree, config.user ?? '0');
  const workdir = config.workdir ?? '/';
  const environment = {
    PATH: defaultPath,
    HOME: user.home,
    HOSTNAME: config.hostname,
    container: 'loopbox',
    ...(terminal && { TERM: process.env.TERM ?? 'xterm' }),
    ...config.environment,
  };
  const executable = await findCommand(tree, command[0] ?? '', { path: environment.PATH, workdir });
  return {
    spec: {
      command,
      environment,
      workdir,
      user: { uid: user.uid, gid: user.gid, groups: user.groups },
      hostname: config.hostname,
      limits: config.limits,
      terminal,
    },
    stopSignal: wishedStopSignal(config, label, warn) ?? defaultStopSignal(executable),
  };
}

async function defaultCommand(tree: Tree, label: string): Promise<string[]> {
  if (await tree.exists('/sbin/init')) return ['/sbin/init'];
  throw new LoopboxError('ERR_LOOPBOX_USAGE', `Cannot start "${label}": it has no command and no /sbin/init`, {
    hint: label.includes('/') ? `loopbox run ${label} -- CMD…` : `loopbox set ${label} -- CMD…`,
  });
}

/** A signal that this host can't send would keep `stop` from its work. */
function wishedStopSignal({ stopSignal }: Config, label: string, warn: Warn): string | undefined {
  if (stopSignal === undefined || isSignal(stopSignal)) return stopSignal;
  warn(`"${label}" asks for the stop signal "${stopSignal}", which there is not: ignored`);
  return undefined;
}

/** systemd as init takes SIGTERM for a request to re-execute itself (systemd(1), "Signals"). */
function defaultStopSignal(executable: string): string {
  return executable.endsWith('/systemd') ? 'SIGRTMIN+3' : 'SIGTERM';
}
