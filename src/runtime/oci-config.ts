import { type OciSeccomp, readSeccomp } from './seccomp';

/** Limits of a container; what is missing is unlimited. */
export interface Limits {
  memoryBytes?: number;
  /** CPUs' worth of time: 0.5 is half of one. */
  cpus?: number;
  pids?: number;
}

/** A process to be started in a container, with all names resolved. */
export interface ProcessSpec {
  command: string[];
  environment: Record<string, string>;
  workdir: string;
  user: { uid: number; gid: number; groups: number[] };
}

/** A container to be started. */
export interface ContainerSpec extends ProcessSpec {
  hostname: string;
  limits: Limits;
  terminal: boolean;
  /** The container's own cgroup, below each hierarchy's root. */
  cgroupsPath: string;
  rootfs: string;
}

/** `process` of the OCI runtime specification. */
export interface OciProcess {
  terminal: boolean;
  /** In characters. */
  consoleSize?: { height: number; width: number };
  user: { uid: number; gid: number; additionalGids: number[] };
  args: string[];
  env: string[];
  cwd: string;
  capabilities: Record<'bounding' | 'effective' | 'permitted', string[]>;
  noNewPrivileges: boolean;
}

/** `linux.resources` of the OCI runtime specification, as far as limits go. */
export interface OciResources {
  memory?: { limit?: number; swap?: number };
  cpu?: { quota?: number; period?: number };
  pids?: { limit: number };
}

/** `config.json` of the OCI runtime specification. */
export interface OciConfig {
  ociVersion: string;
  process: OciProcess;
  root: { path: string; readonly: boolean };
  hostname: string;
  mounts: { destination: string; type: string; source: string; options: string[] }[];
  linux: {
    cgroupsPath: string;
    resources: OciResources & { devices: { allow: boolean; access: string }[] };
    namespaces: { type: string }[];
    maskedPaths: string[];
    readonlyPaths: string[];
    seccomp: OciSeccomp;
  };
}

/** podman's default (4.3). */
const capabilities = [
  'CAP_CHOWN',
  'CAP_DAC_OVERRIDE',
  'CAP_FOWNER',
  'CAP_FSETID',
  'CAP_KILL',
  'CAP_NET_BIND_SERVICE',
  'CAP_SETFCAP',
  'CAP_SETGID',
  'CAP_SETPCAP',
  'CAP_SETUID',
  'CAP_SYS_CHROOT',
];

const mounts: OciConfig['mounts'] = [
  { destination: '/proc', type: 'proc', source: 'proc', options: ['nosuid', 'noexec', 'nodev'] },
  { destination: '/dev', type: 'tmpfs', source: 'tmpfs', options: ['nosuid', 'noexec', 'strictatime', 'mode=755', 'size=65536k'] },
  {
    destination: '/dev/pts',
    type: 'devpts',
    source: 'devpts',
    options: ['nosuid', 'noexec', 'newinstance', 'ptmxmode=0666', 'mode=0620', 'gid=5'],
  },
  { destination: '/dev/shm', type: 'tmpfs', source: 'shm', options: ['nosuid', 'noexec', 'nodev', 'mode=1777', 'size=65536k'] },
  { destination: '/dev/mqueue', type: 'mqueue', source: 'mqueue', options: ['nosuid', 'noexec', 'nodev'] },
  { destination: '/sys', type: 'sysfs', source: 'sysfs', options: ['nosuid', 'noexec', 'nodev', 'ro'] },
  { destination: '/sys/fs/cgroup', type: 'cgroup', source: 'cgroup', options: ['nosuid', 'noexec', 'nodev', 'relatime', 'ro'] },
];

const maskedPaths = [
  '/proc/acpi',
  '/proc/kcore',
  '/proc/keys',
  '/proc/latency_stats',
  '/proc/sched_debug',
  '/proc/scsi',
  '/proc/timer_list',
  '/proc/timer_stats',
  '/sys/dev/block',
  '/sys/devices/virtual/powercap',
  '/sys/firmware',
  '/sys/fs/selinux',
];

const readonlyPaths = ['/proc/asound', '/proc/bus', '/proc/fs', '/proc/irq', '/proc/sys', '/proc/sysrq-trigger'];

const cpuPeriodMicroseconds = 100_000;

/** What a container is allowed is decided here, never in its file. Swap is limited where `canLimitSwap`. */
export function makeOciConfig(spec: ContainerSpec, host: { canLimitSwap: boolean }): OciConfig {
  return {
    ociVersion: '1.0.2',
    process: makeOciProcess(spec, spec.terminal),
    root: { path: spec.rootfs, readonly: false },
    hostname: spec.hostname,
    mounts,
    linux: {
      cgroupsPath: spec.cgroupsPath,
      // The runtime adds the devices of its specification (null, zero, full, random, urandom, tty, ptmx, pts).
      resources: { ...makeOciResources(spec.limits, host), devices: [{ allow: false, access: 'rwm' }] },
      namespaces: ['pid', 'mount', 'network', 'ipc', 'uts', 'cgroup'].map((type) => ({ type })),
      maskedPaths,
      readonlyPaths,
      seccomp: readSeccomp(capabilities),
    },
  };
}

/** Anybody but root gets the capabilities only as a bound for what set-uid programs may gain. */
export function makeOciProcess(spec: ProcessSpec, terminal: boolean): OciProcess {
  const held = spec.user.uid === 0 ? capabilities : [];
  return {
    terminal,
    user: { uid: spec.user.uid, gid: spec.user.gid, additionalGids: spec.user.groups },
    args: spec.command,
    env: Object.entries(spec.environment).map(([key, value]) => `${key}=${value}`),
    cwd: spec.workdir,
    capabilities: { bounding: capabilities, effective: held, permitted: held },
    noNewPrivileges: false,
  };
}

/** Memory and swap together: a container can't get out of its limit by swapping. */
export function makeOciResources(limits: Limits, host: { canLimitSwap: boolean }): OciResources {
  const { memoryBytes, cpus, pids } = limits;
  return {
    ...(memoryBytes !== undefined && { memory: { limit: memoryBytes, ...(host.canLimitSwap && { swap: memoryBytes }) } }),
    ...(cpus !== undefined && { cpu: { quota: Math.round(cpus * cpuPeriodMicroseconds), period: cpuPeriodMicroseconds } }),
    ...(pids !== undefined && { pids: { limit: pids } }),
  };
}

/** The same for a running container, where a limit that is missing has to be lifted. */
export function makeOciUpdate(limits: Limits, host: { canLimitSwap: boolean }): OciResources {
  const memory = limits.memoryBytes ?? -1;
  return {
    memory: { limit: memory, ...(host.canLimitSwap && { swap: memory }) },
    cpu: makeOciResources(limits, host).cpu ?? { quota: -1, period: cpuPeriodMicroseconds },
    pids: { limit: limits.pids ?? -1 },
  };
}
