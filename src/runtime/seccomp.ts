import { readFileSync } from 'node:fs';
import { constants, release } from 'node:os';
import { isSystemError, LoopboxError } from '../errors';

/** containers-common's profile: rules that hold only for some capabilities, machines and kernels. */
export interface SeccompProfile {
  defaultAction: string;
  defaultErrnoRet?: number;
  defaultErrno?: string;
  archMap?: { architecture: string; subArchitectures?: string[] }[];
  syscalls: ProfileRule[];
}

interface ProfileRule {
  names: string[];
  action: string;
  args?: OciSeccompArgument[] | null;
  errnoRet?: number;
  errno?: string;
  includes?: Condition;
  excludes?: Condition;
}

interface Condition {
  arches?: string[];
  caps?: string[];
  minKernel?: string;
}

interface OciSeccompArgument {
  index: number;
  value: number;
  valueTwo?: number;
  op: string;
}

/** `linux.seccomp` of the OCI runtime specification. */
export interface OciSeccomp {
  defaultAction: string;
  defaultErrnoRet?: number;
  architectures: string[];
  syscalls: { names: string[]; action: string; errnoRet?: number; args?: OciSeccompArgument[] }[];
}

/** What a profile's conditions are checked against. */
export interface SeccompHost {
  /** As Node names it (`process.arch`). */
  arch: string;
  /** `6.18.5`. */
  kernel: string;
  /** Capabilities that the container may have. */
  capabilities: readonly string[];
}

const profilePaths = ['/etc/containers/seccomp.json', '/usr/share/containers/seccomp.json'];

const architectures: Record<string, { profile: string; seccomp: string }> = {
  x64: { profile: 'amd64', seccomp: 'SCMP_ARCH_X86_64' },
  arm64: { profile: 'arm64', seccomp: 'SCMP_ARCH_AARCH64' },
  ppc64: { profile: 'ppc64le', seccomp: 'SCMP_ARCH_PPC64LE' },
  s390x: { profile: 's390x', seccomp: 'SCMP_ARCH_S390X' },
  riscv64: { profile: 'riscv64', seccomp: 'SCMP_ARCH_RISCV64' },
  loong64: { profile: 'loong64', seccomp: 'SCMP_ARCH_LOONGARCH64' },
};

/** The host's seccomp profile (the admin's in /etc before the package's), as the OCI runtime takes it. */
export function readSeccomp(capabilities: readonly string[], paths: readonly string[] = profilePaths): OciSeccomp {
  for (const path of paths) {
    let text: string;
    try {
      text = readFileSync(path, 'utf8');
    } catch (error) {
      if (isSystemError(error, 'ENOENT')) continue;
      throw error;
    }
    return convertSeccomp(parseProfile(path, text), { arch: process.arch, kernel: release(), capabilities });
  }
  throw new LoopboxError('ERR_LOOPBOX_NOT_SUPPORTED', 'Cannot start a container: no seccomp profile is installed', {
    hint: 'apt-get install golang-github-containers-common',
    path: paths.at(-1),
  });
}

function parseProfile(path: string, text: string): SeccompProfile {
  try {
    return JSON.parse(text) as SeccompProfile;
  } catch (error) {
    throw new LoopboxError('ERR_LOOPBOX_FAILED', `Cannot read the seccomp profile "${path}": it is not JSON`, { path, cause: error });
  }
}

/** Decides all conditions of a profile for one host and container. The kernel's log stays out of reach without CAP_SYSLOG. */
export function convertSeccomp(profile: SeccompProfile, host: SeccompHost): OciSeccomp {
  const arch = architectures[host.arch] ?? { profile: host.arch, seccomp: '' };
  const mapped = profile.archMap?.find((entry) => entry.architecture === arch.seccomp);
  const hidden = host.capabilities.includes('CAP_SYSLOG') ? [] : ['syslog'];
  const syscalls = profile.syscalls
    .filter((rule) => isWanted(rule, host, arch.profile))
    .map((rule) => convertRule(rule, hidden))
    .filter((rule) => rule.names.length > 0);
  if (hidden.length > 0) syscalls.push({ names: hidden, action: 'SCMP_ACT_ERRNO', errnoRet: constants.errno.EPERM });
  return {
    defaultAction: profile.defaultAction,
    ...errnoOf(profile.defaultErrno, profile.defaultErrnoRet, 'defaultErrnoRet'),
    architectures: mapped ? [mapped.architecture, ...(mapped.subArchitectures ?? []).filter(isUsed)] : arch.seccomp ? [arch.seccomp] : [],
    syscalls,
  };
}

/** No kernel that is in use runs x32 unless asked to at boot, and its rules cost every start and every exec 7 ms in libseccomp. */
function isUsed(architecture: string): boolean {
  return architecture !== 'SCMP_ARCH_X32';
}

function isWanted(rule: ProfileRule, host: SeccompHost, arch: string): boolean {
  const { includes = {}, excludes = {} } = rule;
  const isKernelAtLeast = (wanted: string) => compareVersions(host.kernel, wanted) >= 0;
  if (includes.arches?.length && !includes.arches.includes(arch)) return false;
  if (includes.minKernel && !isKernelAtLeast(includes.minKernel)) return false;
  if (!(includes.caps ?? []).every((capability) => host.capabilities.includes(capability))) return false;
  if (excludes.arches?.includes(arch)) return false;
  if (excludes.minKernel && isKernelAtLeast(excludes.minKernel)) return false;
  return !excludes.caps?.some((capability) => host.capabilities.includes(capability));
}

function convertRule(rule: ProfileRule, hidden: string[]): OciSeccomp['syscalls'][number] {
  return {
    names: hidden.length > 0 ? rule.names.filter((name) => !hidden.includes(name)) : rule.names,
    action: rule.action,
    ...errnoOf(rule.errno, rule.errnoRet, 'errnoRet'),
    ...(rule.args?.length && { args: rule.args }),
  };
}

/** A name says the same on every machine, a number does not. */
function errnoOf<Key extends string>(name: string | undefined, value: number | undefined, key: Key): { [K in Key]?: number } {
  const errno = (name && (constants.errno as Record<string, number | undefined>)[name]) || value;
  return (errno === undefined ? {} : { [key]: errno }) as { [K in Key]?: number };
}

function compareVersions(left: string, right: string): number {
  const numbers = (version: string) => version.split(/[.-]/, 2).map(Number) as [number, number];
  const [[leftMajor, leftMinor], [rightMajor, rightMinor]] = [numbers(left), numbers(right)];
  return leftMajor - rightMajor || leftMinor - rightMinor;
}
