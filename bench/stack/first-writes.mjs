import { rmSync } from 'node:fs';
import { diskJobs, syncedWrite } from '../harness/fio.mjs';
import { alternate, goal, row } from '../harness/samples.mjs';
import { settle } from '../harness/workspace.mjs';
import { makeDelta, makeImage } from './chain-files.mjs';
import { kernelLoop, served } from './devices.mjs';
import { longest, measureJob } from './job.mjs';

const sizeBytes = 4 * 2 ** 30;
const jobs = [diskJobs[2], diskJobs[3], syncedWrite, diskJobs[5]];

/** Writes to blocks that were never written, where the host has to allocate: into an empty top, and into a sparse file. */
export async function measure(workspace) {
  const image = makeImage(workspace.path('base'), sizeBytes, { full: false });
  const [sparse, top] = ['sparse', 'top'].map((name) => workspace.path(name));
  const seconds = workspace.jobSeconds;
  const contestant = (job, path, attach) => {
    let device;
    const asked = { ...job, args: [...job.args, `--size=${sizeBytes}`] };
    return {
      prepare: async () => {
        device = await attach();
        settle(workspace.directory);
      },
      run: () => measureJob(device, asked, seconds),
      after: async () => {
        await device.close();
        rmSync(path);
      },
    };
  };
  const results = [];
  for (const job of jobs) {
    const samples = await alternate(
      {
        loop: contestant(job, sparse, () => {
          makeImage(sparse, sizeBytes, { full: false });
          return kernelLoop(workspace, sparse, sizeBytes);
        }),
        top: contestant(job, top, () => served(workspace, 'top', [image, makeDelta(top, sizeBytes)])),
      },
      workspace.rounds(7),
      { warmUps: 0 },
    );
    results.push({ ...job, samples });
  }
  const rates = (rounds) => rounds.map(({ rate }) => rate);
  const pairs = results.map(({ name, unit, samples: { loop, top } }) => [
    row(`${name}: sparse file, kernel loop`, rates(loop), { unit }),
    row(`${name}: empty top`, rates(top), { unit, reference: rates(loop) }),
  ]);
  const all = results.flatMap(({ name, samples }) => Object.values(samples).flatMap((rounds) => rounds.map((round) => [name, round])));
  return {
    title: `First writes (fio, libaio, O_DIRECT, ${seconds} s a job)`,
    rows: pairs.flat(),
    goals: pairs.map(([, ours], index) => goal(`first writes, ${jobs[index].name}`, ours.ratio, 0.8, { better: 'more' })),
    notes: [longest(all)],
  };
}
