import { setTimeout as sleep } from 'node:timers/promises';
import { fioTar } from '../harness/fio.mjs';
import { alternate, goal, quantile } from '../harness/samples.mjs';
import { settle } from '../harness/workspace.mjs';
import { emptyNode } from '../measurements/cli-start.mjs';
import { SyncedWriter } from './synced-writer.mjs';

const GiB = 2 ** 30;
const commandMs = 60;
const restMs = 30;

/** How long a process inside that writes 4 KiB with O_DSYNC, again and again, has to wait when a snapshot of its container is taken. */
export async function measure(workspace) {
  const ext4 = (size, attach = 'stack') => ({ where: workspace.directory, size, attach });
  const xfs = { where: workspace.xfs(16 * GiB, { isDirect: true }), size: '1G', attach: 'direct' };
  const cases = [
    { name: 'ext4, stack, 1 GiB', ...ext4('1G'), limit: 10, parts: true },
    { name: 'ext4, stack, 1 TiB', ...ext4('1T'), limit: 10 },
    { name: 'XFS, direct, 1 GiB', ...xfs, limit: 10 },
    { name: 'ext4, stack, 1 GiB, 200 MB dirty', ...ext4('1G'), limit: 20, dirtyMB: 200 },
    { name: 'XFS, direct, 1 GiB, 200 MB dirty', ...xfs, limit: 20, dirtyMB: 200 },
  ];
  const rows = [];
  for (const one of cases) {
    const all = await takeSnapshots(workspace, one);
    rows.push({ ...one, all });
    if (!one.parts) continue;
    const fifth = Math.ceil(all.length / 5);
    rows.push({ ...one, name: `… the first ${fifth}: short chains`, all: all.slice(0, fifth) });
    rows.push({ ...one, name: `… the last ${fifth}: chains of ${all.length - fifth + 2} to ${all.length + 1}`, all: all.slice(-fifth) });
  }
  return {
    title: 'Snapshot of a running, writing container',
    tables: [
      {
        title: 'Milliseconds, median / 99th percentile; the goal is for the gap, with dirty data for what it is beyond that of a sync',
        headings: ['', 'longest write meanwhile', 'without a snapshot', 'frozen', 'whole command', 'less Node', 'snapshots'],
        rows: rows.map(({ name, all }) => [
          name,
          ...['gap', 'control', 'frozen', 'command', 'aboveNode'].map((key) => pair(all, key)),
          all.length,
        ]),
      },
    ],
    goals: rows.flatMap(({ name, limit, dirtyMB, all }) => [
      goal(`${name}: gap${dirtyMB ? ' beyond that of a sync' : ''}, p99`, p99(all, 'gap') - (dirtyMB ? p99(all, 'control') : 0), limit, {
        unit: 'ms',
      }),
      ...(dirtyMB ? [] : [goal(`${name}: whole command less Node`, quantile(all.map(of('aboveNode')), 0.5), commandMs, { unit: 'ms' })]),
    ]),
  };
}

const of = (key) => (taken) => taken[key];
const p99 = (all, key) => quantile(all.map(of(key)), 0.99);
const pair = (all, key) => [0.5, 0.99].map((share) => quantile(all.map(of(key)), share).toFixed(1)).join(' / ');

/**
 * Takes snapshots of a container while it writes. Beside each, as a control, the same time without one; where there is to be dirty data,
 * a sync of the container's file system.
 */
async function takeSnapshots(workspace, { where, size, attach, dirtyMB }) {
  const store = workspace.store(where);
  store.loopbox('template', 'import', 'fio', fioTar(workspace), '--size', size);
  store.loopbox('create', 'bench', '--template', 'fio', '--full', '--attach', attach, '--', 'sleep', 'infinity');
  store.loopbox('start', 'bench');
  const root = `/proc/${JSON.parse(store.loopbox('inspect', 'bench', '--format', 'json')).pid}/root`;
  const makeDirty = () => {
    if (dirtyMB) store.loopbox('exec', 'bench', 'dd', 'if=/dev/zero', 'of=/dirty', 'bs=1M', `count=${dirtyMB}`, 'conv=notrunc');
  };
  makeDirty();
  settle(root);
  settle(where);

  const writer = await SyncedWriter.start(store, 'bench', root);
  const node = emptyNode(workspace);
  const [nodes, snapshots, controls] = [[], [], []];
  let number = 0;
  const spent = async (list, body) => {
    makeDirty();
    await sleep(restMs);
    const from = Date.now();
    const result = await body();
    list.push({ from, to: Date.now(), ...result });
    await sleep(restMs);
  };
  await alternate(
    {
      control: { run: () => spent(controls, () => (dirtyMB ? settle(root) : sleep(commandMs))) },
      snapshot: { run: () => spent(snapshots, () => takeSnapshot(store, `bench@s${number++}`)) },
      node: { run: () => nodes.push(node.run()) },
    },
    workspace.rounds(dirtyMB ? 20 : 100),
    { warmUps: 0 },
  );
  const waits = await writer.stop();
  store.close();
  return snapshots.map(({ from, to, frozen, command }, index) => ({
    gap: waits.longest(from, to),
    control: waits.longest(controls[index].from, controls[index].to),
    frozen,
    command,
    aboveNode: command - nodes[index],
  }));
}

function takeSnapshot(store, name) {
  const begin = performance.now();
  const { frozenMs } = JSON.parse(store.loopbox('snapshot', 'create', name, '--format', 'json'));
  return { frozen: frozenMs, command: performance.now() - begin };
}
