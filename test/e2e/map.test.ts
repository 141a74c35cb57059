import { open, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { MiB } from '../../src/units';
import { chainedContainer } from '../chained-container';
import { shell, type TestStore, temporaryDirectory } from '../fixtures';
import { checksum } from '../image-view';
import { Terminal } from '../terminal';

interface DiskMap {
  name: string;
  sizeBytes: number;
  files: { name: string; path: string; kind: string; bytes: number }[];
  emptyBytes: number;
}

let store: TestStore;
beforeAll(async () => {
  store = await chainedContainer();
});

/** What SEEK_DATA finds in a file. */
async function dataBytes(path: string): Promise<number> {
  // In a process of its own, by another program than ours.
  const script = `import os, sys
fd = os.open(sys.argv[1], os.O_RDONLY); size = os.fstat(fd).st_size; at = total = 0
while at < size:
    try: start = os.lseek(fd, at, os.SEEK_DATA)
    except OSError: break
    at = os.lseek(fd, start, os.SEEK_HOLE); total += at - start
print(total)`;
  return Number(await shell('python3', '-c', script, path));
}

describe('map as json', () => {
  it.each(['web', 'web@tue', 'web@mon'])('of %s adds up to the disk, and gives no file more than it holds', async (state) => {
    const map = (await store.json('map', state)) as DiskMap;
    expect(map).toMatchObject({ name: state, sizeBytes: 128 * MiB });
    expect(map.files.map(({ path }) => path)).toEqual((await store.done('files', state)).split('\n'));
    expect(map.files.reduce((sum, { bytes }) => sum + bytes, map.emptyBytes)).toBe(map.sizeBytes);
    for (const { path, bytes } of map.files) {
      expect(bytes).toBeGreaterThan(0);
      expect(bytes).toBeLessThanOrEqual(await dataBytes(path));
    }
  });

  it('follows what is written, block by block', async () => {
    const before = (await store.json('map', 'web')) as DiskMap;
    const [top] = before.files;
    const { mapOffset, dataOffset } = await geometryOf(top?.path ?? '');
    // Two blocks that nobody had, one of them discarded, and one of the image's.
    const [shared = 0] = (await shell('debugfs', '-R', 'blocks /bin/busybox', store.imageOf('web@mon')))
      .trim()
      .split(' ')
      .slice(9)
      .map(Number);
    await using file = await open(top?.path ?? '', 'r+');
    for (const [block, byte] of [
      [30_000, 7],
      [30_001, undefined],
      [shared, 7],
    ] as const) {
      if (byte !== undefined) await file.write(Buffer.alloc(4096, byte), 0, 4096, dataOffset + block * 4096);
      const bits = Buffer.alloc(1);
      await file.read(bits, 0, 1, mapOffset + (block >> 3));
      bits[0] = (bits[0] ?? 0) | (1 << (block & 7));
      await file.write(bits, 0, 1, mapOffset + (block >> 3));
    }
    const after = (await store.json('map', 'web')) as DiskMap;
    expect((after.files[0]?.bytes ?? 0) - (top?.bytes ?? 0)).toBe(2 * 4096);
    expect((before.files[2]?.bytes ?? 0) - (after.files[2]?.bytes ?? 0)).toBe(4096);
    expect(before.emptyBytes - after.emptyBytes).toBe(4096);
  });

  async function geometryOf(path: string): Promise<{ mapOffset: number; dataOffset: number }> {
    const slot = (await readFile(path)).subarray(0, 32 * 1024);
    return JSON.parse(slot.toString('utf8', 0, slot.readUInt32LE(32 * 1024 - 20))) as { mapOffset: number; dataOffset: number };
  }

  it('changes nothing, and takes a FILE', async () => {
    const sum = await checksum(store.imageOf('web@mon'));
    const map = (await store.json('map', store.imageOf('web@mon'))) as DiskMap;
    expect(map.files).toMatchObject([{ name: 'web@mon.img', kind: 'image' }]);
    expect(await checksum(store.imageOf('web@mon'))).toBe(sum);
    expect(await store.done('map', '-q', 'web')).toBe('web.delta\nweb@tue.delta\nweb@mon.img');
    expect(await store.loopbox(['map', 'web@wed'])).toMatchObject({ code: 10 });
  });
});

describe('the picture', () => {
  it('has a letter for each file where there are no colours', async () => {
    const text = await store.done('map', 'web');
    expect(text).not.toContain('\x1b');
    const lines = text.split('\n');
    expect(lines[0]).toMatch(/^web: 128 MiB, a letter is 128 KiB/);
    // 16 lines of 64, each with its place.
    expect(lines.slice(2, 18).map((line) => line.replace(/^ *(\d+ M?i?B) {2}[a-cA-C·]{64}$/, '$1'))).toEqual(
      Array.from({ length: 16 }, (_, index) => (index === 0 ? '0 B' : `${index * 8} MiB`)),
    );
    expect(text).toMatch(
      /\na web\.delta +[\d.]+ KiB +<1 %\nb web@tue\.delta +[\d.]+ KiB +<1 %\nc web@mon\.img +[\d.]+ MiB +\d+ %\n· empty +/,
    );
  });

  it('has colours on a terminal, as wide as that is, but for who wants none', async () => {
    const terminal = await Terminal.loopbox(store, ['map', 'web']);
    // 97 columns are room for 64 cells.
    await terminal.shows(/ 64 MiB {2}(·|.\[38;5;\d+m[█▒░].\[39m){64}\r\n/);
    await terminal.shows(/.\[38;5;\d+m█.\[39m web\.delta/);
    expect(await terminal.ended).toBe(0);
    const plain = await store.loopbox(['map', 'web'], { env: { NO_COLOR: '1' } });
    expect(plain.stdout).not.toContain('\x1b');
  });

  it('as SVG needs nothing else, and replaces no file unless told', async () => {
    const file = join(await temporaryDirectory(), 'a & b <c>.svg');
    expect(await store.done('map', 'web', '--svg', file)).toBe(file);
    const script = `import sys, xml.dom.minidom as m
d = m.parse(sys.argv[1]); print(len(d.getElementsByTagName('rect')), d.documentElement.tagName)`;
    // 4096 cells, paper, and four marks.
    expect(await shell('python3', '-c', script, file)).toBe('4101 svg');
    const picture = await readFile(file, 'utf8');
    expect(picture).not.toMatch(/href|url\(|<script/);
    for (const name of ['web.delta', 'web@tue.delta', 'web@mon.img', 'empty']) expect(picture).toContain(`>${name}<`);

    await writeFile(file, 'mine');
    expect(await store.loopbox(['map', 'web', '--svg', file])).toMatchObject({ code: 11, stderr: expect.stringContaining('--force') });
    expect(await readFile(file, 'utf8')).toBe('mine');
    await store.done('map', 'web', '--svg', file, '--force');
    expect(await readFile(file, 'utf8')).toBe(picture);
  });

  it("tells a stranger's file by a name that neither terminal nor picture obeys", async () => {
    const directory = await temporaryDirectory();
    const file = join(directory, 'a<b>&"\x1b[31m.img');
    await shell('cp', '--sparse=always', store.imageOf('web@mon'), file);
    expect(await store.done('map', file)).not.toContain('\x1b');
    const svg = join(directory, 'picture.svg');
    await store.done('map', file, '--svg', svg);
    await shell('python3', '-c', 'import sys, xml.dom.minidom as m; m.parse(sys.argv[1])', svg);
    expect(await readFile(svg, 'utf8')).toContain('a&lt;b&gt;&amp;&quot;\ufffd[31m.img');
  });
});
