import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { diskJobs, isRead } from '../harness/fio.mjs';
import { alternate, goal, median, row } from '../harness/samples.mjs';
import { forget, makeStripedChain } from './chain-files.mjs';
import { served } from './devices.mjs';
import { longest, measureJob, spread } from './job.mjs';

const MiB = 2 ** 20;
const lengths = [1, 8, 64, 126];
const layout = { sizeBytes: 10 * 2 ** 30, stripedBytes: 768 * MiB, stripeBytes: 256 * 1024, topBytes: 256 * MiB };
const jobs = diskJobs.slice(0, 5);
const attachMs = 200;

/** Chains of many files beside one file: the attach, reads of what is dealt out over all of them, and writes to what the top has. */
export async function measure(workspace) {
  const chains = lengths.map((length) => {
    const directory = workspace.path(`chain-${length}`);
    mkdirSync(directory);
    return { length, label: `chain-${length}`, layers: makeStripedChain((index) => join(directory, String(index)), length, layout) };
  });
  const attached = await alternate(
    byLength(chains, (chain) => attachment(workspace, chain)),
    workspace.rounds(5),
    { warmUps: 0 },
  );

  for (const chain of chains) chain.device = await served(workspace, chain.label, chain.layers);
  const seconds = workspace.jobSeconds;
  const samples = {};
  for (const job of jobs) {
    const asked = { ...job, args: [...job.args, ...partFor(job)] };
    const contestants = byLength(chains, ({ device }) => ({ run: () => measureJob(device, asked, seconds) }));
    samples[job.name] = await alternate(contestants, workspace.rounds(5), { warmUps: 0 });
  }
  for (const { device } of chains) await device.close();

  const rates = (job, length) => samples[job.name][length].map(({ rate }) => rate);
  const relative = (job, length) => rates(job, length).map((rate, round) => rate / rates(job, 1)[round]);
  const cell = (job, length) => (length === 1 ? `${Math.round(median(rates(job, 1)))} ${job.unit}` : spread(relative(job, length)));
  const all = Object.entries(samples).flatMap(([job, of]) =>
    Object.entries(of).flatMap(([length, rounds]) => rounds.map((round) => [`${length} files, ${job}`, round])),
  );
  return {
    title: `Chains of a 10 GiB disk (${seconds} s a job, ${workspace.rounds(5)} rounds)`,
    rows: lengths.map((length) => row(`attach of ${length} files, none of them in the page cache`, attached[length])),
    tables: [
      {
        title: 'Relative to one file (± half the distance of the quartiles)',
        headings: ['files', ...jobs.map(({ name }) => name)],
        rows: lengths.map((length) => [length, ...jobs.map((job) => cell(job, length))]),
      },
    ],
    goals: [
      goal(`attach of ${lengths.at(-1)} files`, median(attached[lengths.at(-1)]), attachMs, { unit: 'ms' }),
      ...lengths
        .slice(1)
        .flatMap((length) =>
          jobs.map((job) => goal(`${length} files: ${job.name} beside one`, median(relative(job, length)), 0.9, { better: 'more' })),
        ),
    ],
    notes: [longest(all)],
  };
}

const byLength = (chains, contestant) => Object.fromEntries(chains.map((chain) => [chain.length, contestant(chain)]));

/** Writes only where the top has all blocks: nothing but the first write of a block tells a short chain from a long one. */
function partFor(job) {
  const { stripedBytes, topBytes } = layout;
  return isRead(job) ? [`--size=${stripedBytes}`] : [`--offset=${stripedBytes}`, `--size=${topBytes}`];
}

function attachment(workspace, { label, layers }) {
  let device;
  return {
    prepare: () => layers.forEach(({ path }) => forget(path)),
    run: async () => {
      const begin = performance.now();
      device = await served(workspace, label, layers, { isCached: true });
      return performance.now() - begin;
    },
    after: () => device.close(),
  };
}
