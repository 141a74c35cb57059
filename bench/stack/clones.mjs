import { readdirSync, readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { output } from '../harness/command.mjs';
import { alternate, goal, row } from '../harness/samples.mjs';
import { settle } from '../harness/workspace.mjs';
import { emptyNode } from '../measurements/cli-start.mjs';
import { forget } from './chain-files.mjs';

const count = 100;
const MiB = 2 ** 20;
const [linkedMs, xfsMs] = [30, 40];
const idleMiB = 8;
/** A server keeps its buffers for some seconds after the last request, and the containers' journals write for some. */
const restMs = 20_000;

/** Verbs that copy nothing, and what a hundred containers that share one file cost while they run. */
export async function measure(workspace) {
  const verbs = await measureVerbs(workspace);
  const { tables, idle } = await measureCrowd(workspace);
  return {
    title: 'Clones',
    rows: verbs.rows,
    tables,
    goals: [...verbs.goals, goal('a server at rest, keeper and worker', idle, idleMiB, { unit: 'MiB' })],
  };
}

async function measureVerbs(workspace) {
  const ext4 = debianStore(workspace, workspace.directory);
  const xfs = debianStore(workspace, workspace.xfs(8 * 2 ** 30, { isDirect: true }));
  const contestant = (store, args, undo) => ({
    prepare: () => settle(store.directory),
    run: () => store.time(...args),
    after: () => store.loopbox(...undo),
  });
  const contestants = {
    '`loopbox create --linked`': contestant(ext4, ['create', 'new', '--template', 'debian', '--linked'], ['rm', 'new']),
    'XFS: `loopbox create --linked`': contestant(xfs, ['create', 'new', '--template', 'debian', '--linked'], ['rm', 'new']),
    'XFS: `loopbox clone`': contestant(xfs, ['clone', 'bench', 'new'], ['rm', 'new']),
    'XFS: `loopbox snapshot create`': contestant(xfs, ['snapshot', 'create', 'bench@new'], ['snapshot', 'rm', 'bench@new']),
  };
  const node = '`node empty.js`';
  const samples = await alternate({ [node]: emptyNode(workspace), ...contestants }, workspace.rounds(15));
  const rows = Object.entries(samples).map(([name, figures]) => row(name, figures, name === node ? {} : { reference: samples[node] }));
  const limits = [linkedMs, linkedMs, xfsMs, xfsMs];
  const goals = rows.slice(1).map(({ name, difference }, index) => goal(`${name} less Node`, difference, limits[index], { unit: 'ms' }));
  ext4.close();
  xfs.close();
  return { rows, goals };
}

/** A store with a Debian template, and a container of it. */
function debianStore(workspace, directory) {
  const store = workspace.store(directory);
  store.loopbox('template', 'import', 'debian', workspace.debianTar());
  store.loopbox('create', 'bench', '--template', 'debian', '--', 'sleep', 'infinity');
  return store;
}

async function measureCrowd(workspace) {
  const store = debianStore(workspace, workspace.directory);
  const names = Array.from({ length: workspace.rounds(count) }, (_, index) => `c${index}`);
  const base = store.templateOf('debian');
  const timed = (body) => {
    const begin = performance.now();
    body();
    return (performance.now() - begin) / names.length;
  };
  const createMs = timed(() => {
    for (const name of names) store.loopbox('create', name, '--template', 'debian', '--linked', '--', 'sleep', 'infinity');
  });
  settle(workspace.directory);
  forget(base);
  const before = memory(base);
  const startMs = timed(() => store.loopbox('start', ...names));
  const started = memory(base);
  // Every one reads the same file of the template past its own page cache.
  const read = ['sh', '-c', 'for f in /usr/bin/*; do dd if="$f" of=/dev/null bs=1M iflag=direct 2>/dev/null; done'];
  const readBy = (some) => {
    for (const name of some) store.loopbox('exec', name, ...read);
    return memory(base);
  };
  const [one, all] = [readBy(names.slice(0, 1)), readBy(names.slice(1))];
  const servers = serversOf(store.runRoot);
  await sleep(restMs);
  const [rss, pss] = ['Rss', 'Pss'].map((key) => servers.map((pids) => pids.reduce((sum, pid) => sum + rollup(pid, key), 0) / MiB));
  store.close();

  const mib = (bytes) => `${Math.round(bytes / MiB)} MiB`;
  const rows = [
    ['`create --linked`, each', `${createMs.toFixed(0)} ms`],
    [`\`start\` of all ${names.length}, each`, `${startMs.toFixed(0)} ms`],
    ['a server (keeper and worker): resident, largest', `${Math.max(...rss).toFixed(1)} MiB`],
    ['the same, shared pages counted in parts, all together', `${pss.reduce((sum, one) => sum + one, 0).toFixed(0)} MiB`],
    ['memory of the host in use: before, started', `${mib(before.used)}, ${mib(started.used)}`],
    ["template's file in the page cache: started", mib(started.base)],
    ['… after one container has read `/usr/bin`', mib(one.base)],
    [`… after all ${names.length} have`, mib(all.base)],
  ];
  return {
    tables: [{ title: `${names.length} linked clones of one template, running`, headings: ['', ''], rows }],
    idle: Math.max(...rss),
  };
}

/** What the host has in use without what it could drop, and how much of a file is in the page cache; bytes. */
function memory(file) {
  const text = readFileSync('/proc/meminfo', 'utf8');
  const bytes = (key) => Number(new RegExp(`^${key}: *(\\d+) kB`, 'm').exec(text)[1]) * 1024;
  return {
    used: bytes('MemTotal') - bytes('MemAvailable'),
    base: Number(output('fincore', ['--bytes', '--noheadings', '--output', 'RES', file])),
  };
}

/** Keeper and worker of each server whose control socket is in this directory. */
function serversOf(runRoot) {
  const servers = new Map();
  for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
    const words = commandLine(pid).split('\0');
    const control = words[words.indexOf('--control') + 1];
    if (words[0].endsWith('/loopbox-server') && control.startsWith(runRoot)) servers.set(control, [...(servers.get(control) ?? []), pid]);
  }
  return [...servers.values()];
}

function commandLine(pid) {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8');
  } catch {
    return '';
  }
}

function rollup(pid, key) {
  return Number(new RegExp(`^${key}: *(\\d+) kB`, 'm').exec(readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8'))[1]) * 1024;
}
