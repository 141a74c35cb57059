import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';

const log = 'gap';

/** fio inside a container: it writes 4 KiB with O_DSYNC, one after the other, and logs how long each took. */
export class SyncedWriter {
  #store;
  #name;
  #root;
  #ended;

  /** `root` leads to the container's file system. Returns once it writes. */
  static async start(store, name, root) {
    const writer = new SyncedWriter();
    const job = ['--name=job', '--filename=/synced', '--size=64M', '--ioengine=psync', '--sync=dsync', '--bs=4k', '--rw=randwrite'];
    const how = ['--overwrite=1', '--time_based', '--runtime=3600', `--write_lat_log=/${log}`, '--log_unix_epoch=1', '--output=/output'];
    const fio = store.spawn('exec', name, 'fio', ...job, ...how);
    let words = '';
    fio.stderr.on('data', (data) => (words += data));
    writer.#ended = new Promise((resolve, reject) => {
      fio.once('exit', (code) => (code === 0 || code === 128 ? resolve() : reject(new Error(`fio ended with ${code}: ${words}`))));
    });
    writer.#ended.catch(() => {});
    [writer.#store, writer.#name, writer.#root] = [store, name, root];
    // It lays its file out first.
    await Promise.race([sleep(2000), writer.#ended]);
    return writer;
  }

  async stop() {
    this.#store.loopbox('exec', this.#name, 'killall', '-INT', 'fio');
    await this.#ended;
    return new Waits(readFileSync(`${this.#root}/${log}_lat.1.log`, 'utf8'));
  }
}

/** What the writes took: lines of `end in ms, latency in ns, …`. */
class Waits {
  #writes;

  constructor(text) {
    this.#writes = text
      .trim()
      .split('\n')
      .map((line) => line.split(', ', 2).map(Number));
  }

  /** Milliseconds of the longest write that was under way in this time. */
  longest(from, to) {
    const under = this.#writes.filter(([end, ns]) => end >= from && end - ns / 1e6 <= to);
    return Math.max(0, ...under.map(([, ns]) => ns / 1e6));
  }
}
