import { join } from 'node:path';
import { output } from '../harness/command.mjs';
import { diskJobs, fioNote, isRead, syncedWrite } from '../harness/fio.mjs';
import { alternate, goal, median } from '../harness/samples.mjs';
import { hasQemuExport, qemuExport } from '../peers/qemu-export.mjs';
import { forget, makeDelta, makeFullDelta, makeImage } from './chain-files.mjs';
import { hasUring, kernelLoop, served, servedBy } from './devices.mjs';
import { longest, measureJob, spread } from './job.mjs';

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
    const asked = { ...job, args: [...job.args, `--size=${sizeBytes}`] };
    const runs = takers.map((taker) => [taker.name, { prepare: taker.prepare, run: () => measureJob(taker.device, asked, seconds) }]);
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
    notes: [
      ...notes,
      fioNote({ ...jobs[0], args: [...jobs[0].args, `--size=${sizeBytes}`] }, seconds),
      longest(
        contestants.flatMap(({ name }) =>
          samples[name].flatMap((/** @type {[string, unknown[]]} */ [job, rounds]) => rounds.map((round) => [`${name}, ${job}`, round])),
        ),
      ),
    ],
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
    ...(hasUring() ? [{ name: 'server, raw file, io_uring', device: await ours('raw-uring', [raw], { transport: 'fuse-uring' }) }] : []),
    { name: 'server, all in the delta', device: await ours('delta', [raw, full]) },
    { name: 'server, all in the image', device: await ours('image', [raw, empty]), readsOnly: true },
    {
      name: 'server, all in the image, page cache',
      device: await ours('cached', [raw, makeDelta(workspace.path('empty-2'), sizeBytes)], { isCached: true }),
      readsOnly: true,
      prepare: () => forget(rawPath),
    },
  ];
  const notes = hasUring() ? [] : ['Without FUSE over io_uring: this kernel has none.'];
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
