import { readFileSync } from 'node:fs';
import { runFio, timed } from '../harness/fio.mjs';
import { median, quantile } from '../harness/samples.mjs';

/**
 * Runs a job on a device. Returns its rate, the longest request in ms, and the µs of CPU an I/O took: of the whole machine, and of fio and
 * the processes that serve. The kernel's loop device works in threads of the kernel, so it has its share in the first alone.
 */
export function measureJob({ path, pids }, { args, figure }, seconds) {
  const before = [ticksOf(pids), ticksOfMachine()];
  const job = runFio(path, [...args, ...timed(seconds)]);
  const [served, machine] = [ticksOf(pids) - before[0], ticksOfMachine() - before[1]].map((ticks) => ticks * tickUs);
  const own = ((job.usr_cpu + job.sys_cpu) / 100) * job.job_runtime * 1000;
  const count = job.read.total_ios + job.write.total_ios;
  const longestMs = Math.max(job.read.lat_ns.max, job.write.lat_ns.max) / 1e6;
  return { rate: figure(job), longestMs, processes: (served + own) / count, machine: machine / count };
}

/** `0.87 ±0.02`: the median, and half the distance of the quartiles. */
export function spread(figures) {
  return `${median(figures).toFixed(2)} ±${((quantile(figures, 0.75) - quantile(figures, 0.25)) / 2).toFixed(2)}`;
}

/** A note of the longest request among `[name, figures]`. */
export function longest(all) {
  const [name, { longestMs }] = all.reduce((one, other) => (one[1].longestMs >= other[1].longestMs ? one : other));
  return `Longest request: ${Math.round(longestMs)} ms (${name}).`;
}

const tickUs = 1e4;

function ticksOf(pids) {
  const fields = pids.map((pid) => readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1].split(' '));
  return fields.reduce((sum, parts) => sum + Number(parts[11]) + Number(parts[12]), 0);
}

/** What the machine's CPUs were busy. */
function ticksOfMachine() {
  const [user, nice, system, , , irq, softirq] = readFileSync('/proc/stat', 'utf8').split('\n')[0].trim().split(/\s+/).slice(1).map(Number);
  return user + nice + system + irq + softirq;
}
