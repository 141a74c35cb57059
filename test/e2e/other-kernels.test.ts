import { beforeAll, describe, expect, it } from 'vitest';
import { MiB } from '../../src/units';
import { probe, soakCount } from '../fixtures';
import { Guest } from '../guest/guest';
import { expectNothingLeftIn, inspectIn, secondsToEndAfterKill } from '../guest/guest-store';
import { guestKernel, whyNotBooted } from '../guest/kernels';

const minute = 60_000;
const isSoak = Boolean(process.env.LOOPBOX_SOAK);
const guests = new Map<string, Guest>();

/** Writes numbered files, syncs each, and prints how many there are. */
const write = 'i=0; while echo $i | dd of=/root/$i conv=fsync 2>/dev/null; do echo $((i += 1)); done';
/** Whether so many of them are right. */
const read = 'i=0; while [ $i -lt $0 ]; do [ "$(cat /root/$i)" = $i ] || exit 1; i=$((i + 1)); done';

const startWriter = `setsid loopbox exec busy sh -c '${write}' >/tmp/written 2>/dev/null &
timeout 60 sh -c 'until [ $(grep -c . /tmp/written) -ge 10 ]; do sleep 0.1; done'`;
const awaitMore = `n=$(grep -c . /tmp/written); timeout 60 sh -c "until [ \\$(grep -c . /tmp/written) -ge $((n + 5)) ]; do sleep 0.1; done"`;
const readAllWritten = `loopbox exec busy sh -c '${read}' $(grep -c . /tmp/written)`;

/** The same in a directory, for the first process of a container: also where it goes on after an earlier one. It leaves the guest some time. */
const writeOn =
  'mkdir -p /root/files; cd /root/files; i=$(ls | wc -l); while echo $i | dd of=$i conv=fsync 2>/dev/null; do sleep 0.1; i=$((i + 1)); done';
/** What the host sees of a container that runs: its root directory, and how many files its writer has synced. */
const lookInside = `root=/proc/$(cat /run/loopbox/grown/pid)/root/root
synced() { echo $(($(ls $root/files | wc -l) - 1)); }
writes_on() { n=$(synced); until [ $(synced) -ge $((n + 3)) ]; do sleep 0.1; done; }
`;
/** Kills the storage server's worker over and over, as long as $! runs, each time with requests that it has taken and not answered. */
const killMeanwhile = `while kill -0 $!; do
  worker=$(pidof loopbox-worker) && kill -STOP $worker && sleep 0.1 && kill -9 $worker
  sleep 0.1
done 2>/dev/null`;

const kernels = [
  { version: '6.1', auto: 'direct: Linux 6.1', made: 'copied from busybox; attach: direct', repeatsRequests: false },
  { version: '6.12', auto: 'stack: no reflinks', made: 'linked to busybox; attach: stack', repeatsRequests: true },
];

beforeAll(async () => {
  const boots = kernels.map(async ({ version }) => {
    const kernel = guestKernel(version);
    if (await whyNotBooted(kernel)) return;
    const guest = await Guest.boot(kernel);
    await guest.done('loopbox template import busybox /busybox.tar --size 128M');
    guests.set(version, guest);
  });
  await Promise.all(boots);
}, 10 * minute);

for (const { version, auto, made, repeatsRequests } of kernels) {
  const isThere = (await probe(`kernel-${version}`, () => whyNotBooted(guestKernel(version)))) === it;

  // One test of each kernel at a time.
  describe.runIf(isThere).concurrent(`on Linux ${version}`, { timeout: 10 * minute }, () => {
    const guest = () => guests.get(version) as Guest;
    const done = (script: string) => guest().done(script);
    const create = (name: string, flags = '', command = 'sleep 1000') =>
      done(`loopbox create ${name} --template busybox ${flags} --start -- ${command}`);

    it.sequential('create chooses what suits the kernel, and says so; what is started is on no mount of the host, and leaves nothing', async () => {
      expect(await done('uname -r')).toMatch(new RegExp(`^${version.replace('.', '\\.')}\\.`));
      expect(await done('loopbox info')).toContain(`auto is ${auto}`);
      expect(await create('box')).toContain(made);
      const look = 'echo kept | dd of=/root/note conv=fsync 2>/dev/null; grep " / " /proc/mounts';
      expect(await done(`loopbox exec box sh -c '${look}'`)).toMatch(/^\/dev\/loop\d+ \/ ext4 rw/);
      expect(await done('cat /proc/mounts')).not.toContain('loop');
      expect(await done('loopbox stop -t 0 box; loopbox ls')).toMatch(/^box +stopped/m);
      await expectNothingLeftIn(guest());
      await done('loopbox check box');
    });

    it.sequential('a container whose first process is killed leaves nothing, and starts again', async () => {
      await done('loopbox start box');
      const { pid } = await inspectIn(guest(), 'box');
      await done(`kill -9 ${String(pid)}`);
      await expectNothingLeftIn(guest());
      expect(await inspectIn(guest(), 'box')).toMatchObject({ state: 'failed', exitCode: 137 });
      expect(await done('loopbox start box; loopbox exec box cat /root/note')).toMatch(/^kept$/m);
      await done('loopbox rm -f box');
    });

    const outcome = repeatsRequests ? 'goes on writing' : 'is stopped within five seconds, and starts again with all that was synced';
    it.sequential(`a container that writes is snapshotted, loses its storage server’s worker, and ${outcome}`, async () => {
      await create('busy', '--attach stack');
      for (let round = 0; round < soakCount(10); round++) {
        await done(startWriter);
        expect(await done(`loopbox snapshot create busy@${round}`)).toMatch(/: filesystem, frozen for /);
        const { pid } = await inspectIn(guest(), 'busy');
        if (repeatsRequests) {
          for (let kill = 0; kill < 3; kill++) await done(`kill -9 $(pidof loopbox-worker); ${awaitMore}`);
          await done('loopbox stop -t 0 busy');
        } else {
          expect(await secondsToEndAfterKill(guest(), 'loopbox-worker', pid)).toBeLessThan(5);
          expect(await inspectIn(guest(), 'busy')).toMatchObject({ state: 'failed', reason: 'storage server lost' });
          await expectNothingLeftIn(guest());
        }
        await done(`loopbox start busy; ${readAllWritten}`);
      }
      expect(await done('dmesg | grep "I/O error" | grep -c loop || true')).toMatch(repeatsRequests ? /^0$/ : /^[1-9]/);
      await done('loopbox stop -t 0 busy; loopbox check busy; loopbox rm --snapshots busy');
      await expectNothingLeftIn(guest());
    });

    if (!isSoak && !repeatsRequests) return;

    const grows = 'a disk on which there is no room, and to which is written, grows';
    it.sequential(`${grows}${repeatsRequests ? ', also where workers die over it' : ''}; all is there after the next start`, async () => {
      const [oldBytes, bytes, top] = [128 * MiB, 512 * MiB, '/var/lib/loopbox/containers/grown.delta'];
      await create('grown', '--attach stack', `sh -c '${writeOn}'`);
      const inGuest = (script: string) => done(`${lookInside}${script}`);
      // What is larger than what is left lies behind the old end.
      await inGuest('writes_on; fallocate -l $((($(stat -f -c %f $root) - 2048) * 4096)) $root/filler');

      // The delta, the server, the device: in this order.
      const stopped = repeatsRequests ? 'worker=$(pidof loopbox-worker); kill -STOP $worker' : '';
      const killed = repeatsRequests ? `until [ $(stat -c %s ${top}) -gt ${bytes} ]; do sleep 0.05; done; kill -9 $worker` : '';
      await inGuest(`${stopped}\nnode /loopbox/dist/grow.js grown ${bytes} &\n${killed}\nwait $!\nwrites_on`);
      const loop = await done('losetup -n -O NAME');
      expect(await done(`blockdev --getsize64 ${loop}`)).toBe(String(bytes));

      // And the file system, which is mounted here once more, so that resize2fs can find it.
      const resize = `resize2fs ${loop} 2>/tmp/resized &\n${repeatsRequests ? killMeanwhile : ''}\nwait $!`;
      await inGuest(`mkdir -p /mnt; mount ${loop} /mnt; ${resize}; umount /mnt; writes_on`);
      expect(await inGuest('echo $(($(stat -f -c %b $root) * 4096))')).toSatisfy((size) => Number(size) > 3 * oldBytes);
      const sum = await inGuest('head -c 16777216 /dev/urandom | dd of=$root/far conv=fsync 2>/dev/null; md5sum <$root/far');
      const count = Number(await inGuest('synced'));
      if (repeatsRequests) {
        expect(Number(await done('grep -c "starting another" /run/loopbox/grown/server.log'))).toBeGreaterThan(1);
        expect(await done('dmesg | grep "I/O error" | grep -c loop || true')).toBe('0');
      }

      await done('loopbox stop -t 0 grown; loopbox check grown; loopbox start grown');
      expect(await inGuest('md5sum <$root/far')).toBe(sum);
      await inGuest(`cd $root/files; sh -c '${read.replaceAll('/root/', '')}' ${count}`);
      await done('loopbox rm -f grown');
    });

    if (!isSoak) return;

    it.sequential('cgroups of version 2 limit a container, also when they are changed while it runs', async () => {
      await create('limited', '--memory 32M --pids 20');
      const limits = () => done('loopbox exec limited cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/pids.max');
      expect(await limits()).toBe(`${32 << 20}\n20`);
      await done('loopbox set limited --memory 64M');
      expect(await limits()).toBe(`${64 << 20}\n20`);
      await done('loopbox rm -f limited');
    });

    it.sequential('snapshots of what runs by the storage server are taken, mounted, removed, restored and settled', async () => {
      await create('web', '--attach stack');
      const writeDay = (word: string) =>
        done(`loopbox exec web sh -c 'echo ${word} > /root/day; head -c 300000 /dev/urandom > /root/${word}'`);
      await writeDay('monday');
      await done('loopbox snapshot create web@mon');
      await writeDay('tuesday');
      await done('loopbox snapshot create web@tue');
      await writeDay('now');
      const mounted = 'mkdir -p /mnt && loopbox snapshot mount web@mon /mnt && cat /mnt/root/day && ls /mnt/root && umount /mnt';
      expect(await done(mounted)).toBe('monday\nday\nmonday');
      await done('loopbox snapshot rm web@mon --wait');
      expect(await done('loopbox exec web cat /root/day')).toBe('now');
      await done('loopbox snapshot restore web@tue --restart');
      expect(await done('loopbox exec web cat /root/day')).toBe('tuesday');
      await done('loopbox stop -t 0 web; loopbox snapshot create web@end');
      expect(await done('loopbox snapshot ls web -q')).toMatch(/^web@tue\nweb@before-restore-\S+\nweb@end$/);
      await done('for name in $(loopbox snapshot ls web -q); do loopbox snapshot rm $name; done; loopbox settle web');
      await done('loopbox check web; loopbox start web');
      expect(await done('loopbox exec web cat /root/day')).toBe('tuesday');
      await done('loopbox rm -f web');
      await expectNothingLeftIn(guest());
    });

    it.sequential('snapshots of what is attached directly are taken while it rests', async () => {
      await create('plain', '--full --attach direct');
      expect(await guest().run('loopbox snapshot create plain@no')).toMatchObject({ code: 15 });
      await done('loopbox stop -t 0 plain; loopbox snapshot create plain@rest; loopbox snapshot restore plain@rest');
      await done('loopbox start plain; loopbox rm -f --snapshots plain');
      await expectNothingLeftIn(guest());
    });
  });
}
