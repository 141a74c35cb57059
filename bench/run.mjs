// The measurements behind docs/benchmarks.md: `npm run bench -- [MEASUREMENT…] [flags]`, as root.
import { parseArgs } from 'node:util';
import { describeMachine } from './harness/machine.mjs';
import { printResult, printTable } from './harness/report.mjs';
import { Workspace } from './harness/workspace.mjs';

const measurements = {
  'cli-start': () => import('./measurements/cli-start.mjs'),
  import: () => import('./measurements/import.mjs'),
  create: () => import('./measurements/create.mjs'),
  export: () => import('./measurements/export.mjs'),
  start: () => import('./measurements/start.mjs'),
  exec: () => import('./measurements/exec.mjs'),
  'disk-io': () => import('./measurements/disk-io.mjs'),
  'stack-io': () => import('./stack/io.mjs'),
  'stack-layers': () => import('./stack/layers.mjs'),
  'stack-first-writes': () => import('./stack/first-writes.mjs'),
  'stack-gap': () => import('./stack/gap.mjs'),
  'stack-clones': () => import('./stack/clones.mjs'),
};
const groups = { stack: Object.keys(measurements).filter((name) => name.startsWith('stack-')) };

const usage = `usage: npm run bench -- [${Object.keys({ ...measurements, ...groups }).join('|')} …]
  --quick            a few rounds, to see that it works
  --rounds NUMBER    rounds of each measurement instead of its own number
  --seconds NUMBER   length of each job of fio; 3 unless told, 1 with --quick
  --tar FILE         the Debian root file system; unless told one is made by mmdebstrap, once
  --directory DIR    where files are made and copied; build/bench unless told
  --peers            containerd and qemu-storage-daemon beside it (installed where they are missing)
  --format FORMAT    table or json`;

function parse() {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      quick: { type: 'boolean', default: false },
      rounds: { type: 'string' },
      seconds: { type: 'string' },
      tar: { type: 'string' },
      directory: { type: 'string' },
      peers: { type: 'boolean', default: false },
      format: { type: 'string', default: 'table' },
      help: { type: 'boolean', default: false },
    },
  });
  const names = positionals.flatMap((name) => groups[name] ?? [name]);
  const unknown = names.find((name) => !(name in measurements));
  if (unknown !== undefined) throw new Error(`There is no measurement "${unknown}"`);
  if (!['table', 'json'].includes(values.format)) throw new Error(`There is no format "${values.format}"`);
  if (values.rounds !== undefined && !/^[1-9]\d*$/.test(values.rounds)) throw new Error('--rounds wants a number');
  if (values.seconds !== undefined && !(Number(values.seconds) > 0)) throw new Error('--seconds wants a number');
  return { ...values, names: names.length > 0 ? names : Object.keys(measurements) };
}

async function main(options) {
  if (process.geteuid() !== 0) throw new Error('Loop devices, mounts and namespaces need root');
  // Costs each start of Node some 30 ms, ours as well as the empty one beside it.
  delete process.env.NODE_EXTRA_CA_CERTS;
  const workspace = new Workspace(options);
  for (const [signal, number] of Object.entries({ SIGHUP: 1, SIGINT: 2, SIGTERM: 15 }))
    process.once(signal, () => process.exit(128 + number));
  process.once('exit', () => workspace.close());
  const machine = describeMachine(workspace.directory);
  if (options.format === 'table') printTable(['machine', ''], Object.entries(machine));
  const results = [];
  for (const name of options.names) {
    const { measure } = await measurements[name]();
    const result = { name, ...(await measure(workspace)) };
    results.push(result);
    if (options.format === 'table') printResult(result);
  }
  if (options.format === 'json') console.log(JSON.stringify({ machine, results }, null, 2));
}

let options;
try {
  options = parse();
} catch (error) {
  console.error(`bench: ${error.message}\n${usage}`);
  process.exit(2);
}
if (options.help) console.log(usage);
else {
  await main(options);
  // The exit cleans up; a peer's daemon would keep us waiting.
  process.exit();
}
