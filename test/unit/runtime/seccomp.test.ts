import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { convertSeccomp, readSeccomp, type SeccompProfile } from '../../../src/runtime/seccomp';
import { temporaryDirectory } from '../../temporary';

const host = { arch: 'x64', kernel: '6.1.0-13-amd64', capabilities: ['CAP_CHOWN'] };

function convert(syscalls: SeccompProfile['syscalls'], more: Partial<typeof host> = {}, profile: Partial<SeccompProfile> = {}) {
  return convertSeccomp({ defaultAction: 'SCMP_ACT_ERRNO', syscalls, ...profile }, { ...host, ...more });
}

function names(syscalls: SeccompProfile['syscalls'], more: Partial<typeof host> = {}): string[] {
  return convert(syscalls, more).syscalls.flatMap((rule) => (rule.action === 'SCMP_ACT_ALLOW' ? rule.names : []));
}

const allow = (name: string, condition: object = {}) => ({ names: [name], action: 'SCMP_ACT_ALLOW', ...condition });

it('keeps what the container may not do out by its capabilities', () => {
  const rules = [
    allow('always'),
    allow('with', { includes: { caps: ['CAP_CHOWN'] } }),
    allow('withBoth', { includes: { caps: ['CAP_CHOWN', 'CAP_SYS_ADMIN'] } }),
    allow('without', { excludes: { caps: ['CAP_SYS_ADMIN'] } }),
    allow('not', { excludes: { caps: ['CAP_CHOWN', 'CAP_SYS_ADMIN'] } }),
  ];
  expect(names(rules)).toEqual(['always', 'with', 'without']);
  expect(names(rules, { capabilities: ['CAP_CHOWN', 'CAP_SYS_ADMIN'] })).toEqual(['always', 'with', 'withBoth']);
});

it('takes the rules of this machine and kernel', () => {
  const rules = [
    allow('here', { includes: { arches: ['amd64', 'x32'] } }),
    allow('elsewhere', { includes: { arches: ['arm64'] } }),
    allow('notHere', { excludes: { arches: ['amd64'] } }),
    allow('new', { includes: { minKernel: '4.8' } }),
    allow('newer', { includes: { minKernel: '6.12' } }),
    allow('old', { excludes: { minKernel: '6.1' } }),
  ];
  expect(names(rules)).toEqual(['here', 'new']);
  expect(names(rules, { arch: 'arm64', kernel: '6.12.3' })).toEqual(['elsewhere', 'notHere', 'new', 'newer']);
});

it('maps the architecture to those that run on it too, but for x32', () => {
  const archMap = [
    { architecture: 'SCMP_ARCH_AARCH64', subArchitectures: ['SCMP_ARCH_ARM'] },
    { architecture: 'SCMP_ARCH_X86_64', subArchitectures: ['SCMP_ARCH_X86', 'SCMP_ARCH_X32'] },
  ];
  expect(convert([], {}, { archMap }).architectures).toEqual(['SCMP_ARCH_X86_64', 'SCMP_ARCH_X86']);
  expect(convert([], { arch: 'riscv64' }, { archMap }).architectures).toEqual(['SCMP_ARCH_RISCV64']);
});

it('takes error numbers by name before number, and arguments as they are', () => {
  const args = [{ index: 0, value: 16, valueTwo: 0, op: 'SCMP_CMP_EQ' }];
  const rule = { names: ['socket'], action: 'SCMP_ACT_ERRNO', errno: 'EINVAL', errnoRet: 1, args };
  const plain = { names: ['x'], action: 'SCMP_ACT_ERRNO', errnoRet: 38, args: null };
  const converted = convert([rule, plain], {}, { defaultErrno: 'ENOSYS', defaultErrnoRet: 1 });
  expect(converted.defaultErrnoRet).toBe(38);
  expect(converted.syscalls.slice(0, 2)).toEqual([
    { names: ['socket'], action: 'SCMP_ACT_ERRNO', errnoRet: 22, args },
    { names: ['x'], action: 'SCMP_ACT_ERRNO', errnoRet: 38 },
  ]);
});

it("hides the kernel's log from those without CAP_SYSLOG", () => {
  const rules = [{ names: ['read', 'syslog'], action: 'SCMP_ACT_ALLOW' }, allow('syslog')];
  expect(convert(rules).syscalls).toEqual([
    { names: ['read'], action: 'SCMP_ACT_ALLOW' },
    { names: ['syslog'], action: 'SCMP_ACT_ERRNO', errnoRet: 1 },
  ]);
  expect(names(rules, { capabilities: ['CAP_SYSLOG'] })).toEqual(['read', 'syslog', 'syslog']);
});

it("reads the admin's profile before the package's, and says what is missing or damaged", async () => {
  const directory = await temporaryDirectory();
  const [admin, common] = [join(directory, 'admin.json'), join(directory, 'common.json')];
  expect(() => readSeccomp([], [admin, common])).toThrow(expect.objectContaining({ code: 'ERR_LOOPBOX_NOT_SUPPORTED' }) as Error);
  await writeFile(common, '{"defaultAction":"common","syscalls":[]}');
  expect(readSeccomp([], [admin, common]).defaultAction).toBe('common');
  await writeFile(admin, '{"defaultAction":"admin","syscalls":[]}');
  expect(readSeccomp([], [admin, common]).defaultAction).toBe('admin');
  await writeFile(admin, '{');
  expect(() => readSeccomp([], [admin, common])).toThrow(`Cannot read the seccomp profile "${admin}": it is not JSON`);
});
