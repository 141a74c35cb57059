import { join } from 'node:path';
import { output } from '../harness/command.mjs';
import { diskJobs, isRead, runFio, syncedWrite, timed } from '../harness/fio.mjs';
import { alternate, goal, median, quantile } from '../harness/samples.mjs';
import { hasQemuExport, qemuExport } from '../peers/qemu-export.mjs';
import { makeDelta, makeFullDelta, makeImage } from './chain-files.mjs';
import { kernelLoop, served, servedBy, ticksOf, ticksOfMachine } from './devices.mjs';

const jobs = [...diskJobs.slice(0, 4), syncedWrite, ...diskJobs.slice(4)];
const goals = [0.85, 0.9, 0.85, 0.9, 0.75, 1, 1];
const sizeBytes = 4 * 2 ** 30;
const reference = 'kernel loop';
const qemu = 'qemu-storage-daemon, raw file';

/** The server's device beside the kernel's loop device with direct I/O, all on fully written files of one file system. */
export async function measure(workspace) {
  const seconds = workspace.jobSeconds;
  const { contestants, notes } = await makeContestants(workspace);
  const samples = Object.fromEntries(contestants.map(({ name }) => [name, []]));
  for (const job of jobs) {
    const takers = contestants.filter(({ readsOnly }) => !readsOnly || isRead(job));
    const runs = takers.map((taker) => [taker.name, { prepare: taker.prepare, run: () => measureJob(taker.device, job, seconds) }]);
    const figures = await alternate(Object.fromEntries(runs), workspace.rounds(5), { warmUps: 0 });
    for (const [name, rounds] of Object.entries(figures)) samples[name].push([job.name, rounds]);
  }
  for (const { device } of contestants) await device.close();

  const of = (name, job, key) => new Map(samples[name]).get(job.name)?.map((round) => round[key]);
  const matrix = (title, cell) => ({
    title,
    headings: ['', ...jobs.map((job) => job.name)],
    rows: contestants.map(({ name }) => [name, ...jobs.map((job) => (of(name, job, 'rate') ? cell(name, job) : '–'))]),
  });
  const relative = (name, job, other = reference) => of(name, job, 'rate').map((figure, round) => figure / of(other, job, 'rate')[round]);
  const goalsOf = (ours, other, limit) =>
    jobs
      .filter((job) => of(ours, job, 'rate') && of(other, job, 'rate'))
      .map((job) => goal(`${ours}: ${job.name} beside ${other}`, median(relative(ours, job, other)), limit(job), { better: 'more' }));
  const taken = (name) => contestants.some((one) => one.name === name);
  return {
    title: `The server's device beside the kernel's (fio, libaio, O_DIRECT, ${seconds} s a job, ${workspace.rounds(5)} rounds)`,
    tables: [
      matrix(`Relative to ${reference} (± half the distance of the quartiles)`, (name, job) =>
        name === reference ? `${Math.round(median(of(name, job, 'rate')))} ${job.unit}` : spread(relative(name, job)),
      ),
      matrix('CPU of the whole machine, µs per I/O', (name, job) => median(of(name, job, 'machine')).toFixed(0)),
      matrix('CPU of fio and of the processes that serve, µs per I/O', (name, job) => median(of(name, job, 'processes')).toFixed(0)),
    ],
    goals: [
      ...['server, raw file', 'server, all in the delta'].flatMap((ours) => goalsOf(ours, reference, (job) => goals[jobs.indexOf(job)])),
      ...contestants.filter(({ proofOf }) => proofOf).flatMap(({ name, proofOf }) => goalsOf(proofOf, name, () => 0.93)),
      ...(taken(qemu) ? goalsOf('server, raw file', qemu, () => 1.5) : []),
    ],
    notes,
  };
}

async function makeContestants(workspace) {
  const [rawPath, deltaPath, emptyPath] = ['raw', 'full', 'empty'].map((name) => workspace.path(name));
  const raw = makeImage(rawPath, sizeBytes);
  const full = makeFullDelta(deltaPath, sizeBytes);
  const empty = makeDelta(emptyPath, sizeBytes);
  const ours = (label, layers, options) => served(workspace, label, layers, options);
  const list = [
    { name: reference, device: kernelLoop(workspace, rawPath, sizeBytes) },
    { name: 'kernel loop, once more', device: kernelLoop(workspace, rawPath, sizeBytes) },
    { name: 'server, raw file', device: await ours('raw', [raw]) },
    { name: 'server, raw file, no spin', device: await ours('raw-0', [raw], { spinMicroseconds: 0 }) },
    { name: 'server, all in the delta', device: await ours('delta', [raw, full]) },
    { name: 'server, all in the image', device: await ours('image', [raw, empty]), readsOnly: true },
    {
      name: 'server, all in the image, page cache',
      device: await ours('cached', [raw, makeDelta(workspace.path('empty-2'), sizeBytes)], { isCached: true }),
      readsOnly: true,
      prepare: () => forget(rawPath),
    },
  ];
  const notes = [];
  const proofs = process.env.LOOPBOX_BENCH_PROOFS;
  if (proofs) list.push(...(await makeProofs(workspace, proofs, [rawPath, deltaPath, emptyPath])));
  if (hasQemuExport(workspace)) {
    list.push({ name: qemu, device: await qemuExport(workspace, rawPath, sizeBytes) });
  } else notes.push('Without qemu-storage-daemon (Debian: qemu-system-common): it is not installed.');
  return { contestants: list, notes };
}

/** The programs that proved the mechanism: `fast.cc` serves a raw file, `delta.cc` a delta on an image. */
async function makeProofs(workspace, directory, [raw, full, empty]) {
  const [fast, delta] = ['fast', 'delta'].map((name) => {
    const program = workspace.path(`proof-${name}`);
    output('g++', ['-std=c++20', '-O2', join(directory, `${name}.cc`), '-luring', '-o', program]);
    return program;
  });
  // It has its map and its data where our deltas of this size have them.
  return [
    { name: 'fast.cc, raw file', device: await servedBy(fast, [raw, '50']), proofOf: 'server, raw file' },
    { name: 'delta.cc, all in the delta', device: await servedBy(delta, [raw, full, '50']), proofOf: 'server, all in the delta' },
    {
      name: 'delta.cc, all in the image',
      device: await servedBy(delta, [raw, empty, '50']),
      proofOf: 'server, all in the image',
      readsOnly: true,
    },
  ];
}

function measureJob({ path, pids }, { args, figure }, seconds) {
  const before = [ticksOf(pids), ticksOfMachine()];
  const job = runFio(path, [...args, `--size=${sizeBytes}`, ...timed(seconds)]);
  const [served, machine] = [ticksOf(pids) - before[0], ticksOfMachine() - before[1]].map((ticks) => ticks * 1e4);
  const own = ((job.usr_cpu + job.sys_cpu) / 100) * job.job_runtime * 1000;
  const count = job.read.total_ios + job.write.total_ios;
  return { rate: figure(job), processes: (served + own) / count, machine: machine / count };
}

function spread(figures) {
  return `${median(figures).toFixed(2)} ±${((quantile(figures, 0.75) - quantile(figures, 0.25)) / 2).toFixed(2)}`;
}

/** Takes a file's pages out of the page cache. */
function forget(path) {
  output('dd', [`of=${path}`, 'oflag=nocache', 'conv=notrunc,fdatasync', 'count=0', 'status=none']);
}
