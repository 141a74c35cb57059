import type { Guest } from './guest';

/** Lists what containers have left: loop devices, mounts, processes, cgroups. */
const leftovers = `{
losetup -n -O NAME,BACK-FILE
grep -v '^\\(dev\\|/dev/vda\\|proc\\|sys\\|devpts\\|run\\|tmp\\|cgroup\\) ' /proc/mounts || true
for name in loopbox-keeper loopbox-worker loopbox-watch loopbox-freeze conmon runc; do pidof $name && echo "is $name"; done
find /sys/fs/cgroup/loopbox -mindepth 1 -type d 2>/dev/null || true
} >/tmp/left 2>&1; test ! -s /tmp/left`;

/** Waits until nothing of a container is left in a guest: the kernel clears up behind a process, and the next command behind a container. */
export async function expectNothingLeftIn(guest: Guest): Promise<void> {
  await guest.done(`loopbox ls; for i in $(seq 300); do ${leftovers} && exit; sleep 0.1; done; echo "Left behind:"; cat /tmp/left; exit 1`);
}

/** `inspect --format json` of a container in a guest. */
export async function inspectIn(guest: Guest, name: string): Promise<Record<string, unknown>> {
  return JSON.parse(await guest.done(`loopbox inspect ${name} --format json`)) as Record<string, unknown>;
}

/** Kills processes of a guest by the name that `pidof` knows; returns the seconds until the process `pid` has gone, at most 30. */
export async function secondsToEndAfterKill(guest: Guest, names: string, pid: unknown): Promise<number> {
  const watched = `/proc/${String(pid)}`;
  const times = await guest.done(
    `kill -9 $(pidof ${names}); cat /proc/uptime; timeout 30 sh -c 'while [ -d ${watched} ]; do sleep 0.05; done'; cat /proc/uptime`,
  );
  const [begun = 0, ended = 0] = times.split('\n').map((line) => Number.parseFloat(line));
  return ended - begun;
}
