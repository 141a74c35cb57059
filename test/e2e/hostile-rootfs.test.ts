import { existsSync } from 'node:fs';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { shell, type TestStore, temporaryDirectory } from '../fixtures';
import { ImageWorkshop } from '../image-workshop';
import { heldByKernel } from '../remains';
import { describeTree, mounted } from '../trees';

let images: ImageWorkshop;
let store: TestStore;

beforeAll(async () => {
  images = await ImageWorkshop.open();
  ({ store } = images);
});

describe('a root file system with traps where loopbox looks or writes', () => {
  let canary: string;
  beforeAll(async () => {
    canary = join(images.directory, 'canary');
    await mkdir(join(canary, 'ssh'), { recursive: true });
    for (const name of ['hostname', 'machine-id', 'passwd', 'group', 'ssh/ssh_host_rsa_key'])
      await writeFile(join(canary, name), 'canary\n');
  });

  const traps: Record<string, string> = {
    '/etc is a link to the host': 'rm -r etc; ln -s $CANARY etc',
    '/etc leads up and out': 'rm -r etc; ln -s ../../../../../../..$CANARY etc',
    'files of /etc are links to the host':
      'for f in hostname machine-id passwd group; do ln -sf $CANARY/$f etc/$f; done; ln -s $CANARY/ssh etc/ssh',
    'files of /etc are fifos': 'for f in hostname machine-id; do rm etc/$f; mkfifo etc/$f; done',
    'files of /etc are devices': 'for f in hostname machine-id; do rm etc/$f; mknod etc/$f c 1 3; done',
    '/etc/hostname is a directory, and a file has its name': 'rm etc/hostname; mkdir -p etc/hostname/x',
    '/etc/machine-id is a huge hole': 'truncate -s 100G etc/machine-id',
    '/var/lib is a loop of links': 'rm -r var/lib; ln -s lib var/lib',
  };

  it.each(Object.entries(traps))('does no harm: %s', async (_, script) => {
    const tree = await temporaryDirectory();
    await shell('sh', '-c', `cp -a ${images.rootfs}/. ${tree}; cd ${tree}; CANARY=${canary}; ${script}`);
    const archive = join(await temporaryDirectory(), 'trap.tar');
    await shell('tar', '-C', tree, '--exclude=./etc/machine-id', '-cf', archive, '.');
    const before = await describeTree(canary);
    await store.done('template', 'import', '--size', '128M', 'trap', archive);
    try {
      await store.done('create', 'trapped', '--full', '--template', 'trap');
      await store.done('template', 'create', 'again', '--from', 'trapped');
      expect(await store.loopbox(['run', store.imageOf('trapped'), '--', 'echo', 'it runs'])).toMatchObject({
        code: 0,
        stdout: 'it runs\n',
      });
    } finally {
      await store.loopbox(['rm', 'trapped']);
      await store.loopbox(['template', 'rm', 'trap', 'again']);
    }
    expect(await describeTree(canary)).toEqual(before);
  });

  it('is refused without waiting or filling memory where users are looked up', async () => {
    for (const trap of ['mkfifo etc/passwd', 'mknod etc/passwd b 7 0', 'truncate -s 20G etc/passwd', 'mkdir etc/passwd']) {
      const path = await images.copyOf(images.exported);
      await mounted(path, 'loop', async (target) => shell('sh', '-c', `cd ${target}; rm etc/passwd; ${trap}`));
      const result = await store.loopbox(['run', '-d', path, '--', 'true'], { timeoutMs: 60_000 });
      expect([trap, result.code, result.stderr]).toEqual([trap, expect.any(Number), expect.stringMatching(/^loopbox: Cannot /)]);
      expect([12, 13]).toContain(result.code);
      await expect.poll(() => heldByKernel(store)).toEqual([]);
    }
  });

  it('can not make the host panic at its errors, nor mount itself otherwise than we say', async () => {
    const path = await images.copyOf(images.exported);
    await shell('tune2fs', '-e', 'panic', '-E', 'mount_opts=errors=panic', path);
    await store.done('run', '-d', path, '--', 'sleep', '1000');
    try {
      const running = heldByKernel(store);
      const device = /loop device (\d+)/.exec(running.join('\n'))?.[1] ?? (await deviceOf(path));
      const options = await readFile(`/proc/fs/ext4/loop${device}/options`, 'utf8');
      expect(options).toContain('errors=remount-ro');
      expect(options).not.toContain('panic');
    } finally {
      await store.done('stop', '-t', '0', path);
    }
    expect(existsSync(path)).toBe(true);
  });

  async function deviceOf(path: string): Promise<string> {
    const line = (await shell('losetup', '-j', path)).split(':')[0] ?? '';
    return line.replace('/dev/loop', '');
  }
});
