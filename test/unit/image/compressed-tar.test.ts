import { PassThrough } from 'node:stream';
import { gzipSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { tarSource } from '../../../src/image/read-tar';
import type { ProgressEvent } from '../../../src/progress';
import { MiB } from '../../../src/units';
import { seededBytes, superblockBytes } from './golden';
import { contents, entry, program, readAll, tar } from './tar-builder';

describe('compressed archives', () => {
  const content = seededBytes(9, 300_000);
  const archive = tar(entry({ name: 'a' }, content), entry({ name: 'b' }, Buffer.alloc(3 * MiB)));
  const packed = {
    gzip: () => gzipSync(archive),
    'gzip in two members': () => Buffer.concat([gzipSync(archive.subarray(0, 1000)), gzipSync(archive.subarray(1000))]),
    xz: () => program('xz', ['-c', '-0'], archive),
    zstd: () => program('zstd', ['-c', '-1'], archive),
  };

  it.each(Object.entries(packed))('are read through %s', async (_, pack) => {
    const bytes = pack();
    const events: ProgressEvent[] = [];
    const entries = await readAll(bytes, { onProgress: (event) => events.push(event), chunkLength: 1000 });
    expect(contents(entries).get('a')?.equals(content)).toBe(true);
    expect(contents(entries).get('b')?.length).toBe(3 * MiB);
    expect(events.at(-1)).toEqual({ action: 'importing', doneBytes: bytes.length, totalBytes: bytes.length });
  });

  it.each(Object.entries(packed))('that are damaged or cut short are refused with 13 (%s)', async (_, pack) => {
    const bytes = pack();
    const flipped = Buffer.from(bytes);
    flipped.fill(0xa5, 5000, 5100);
    for (const broken of [bytes.subarray(0, bytes.length - 100_000), bytes.subarray(0, bytes.length - 3), flipped]) {
      await expect(readAll(broken)).rejects.toMatchObject({ code: 'ERR_LOOPBOX_CORRUPT' });
    }
  });

  it('of other kinds are refused with 15, by name', async () => {
    await expect(readAll(Buffer.concat([Buffer.alloc(1024), superblockBytes()]))).rejects.toMatchObject({
      code: 'ERR_LOOPBOX_NOT_SUPPORTED',
      message: 'Cannot import "x.tar": it is an ext4 image, not a tar archive',
    });
    await expect(readAll(Buffer.from('BZh91AY&SY'))).rejects.toMatchObject({
      code: 'ERR_LOOPBOX_NOT_SUPPORTED',
      message: 'Cannot import "x.tar": it is bzip2 data, not a tar archive',
    });
  });

  it('leave no process behind when the reader stops or aborts', async () => {
    for (const pack of [packed.zstd, packed.xz, packed.gzip]) {
      const endless = new PassThrough();
      endless.write(pack().subarray(0, 200_000));
      const source = tarSource(endless, 'x.tar');
      const reading = source.entries().next();
      setTimeout(() => void source.close(), 50);
      await expect(reading).rejects.toThrow();
    }
    const controller = new AbortController();
    const endless = new PassThrough();
    endless.write(packed.xz().subarray(0, 200_000));
    const reading = tarSource(endless, 'x.tar', { signal: controller.signal }).entries().next();
    setTimeout(() => controller.abort(new Error('Ctrl-C')), 50);
    await expect(reading).rejects.toThrow('Ctrl-C');
    expect(program('ps', ['--ppid', String(process.pid), '-o', 'comm=']).toString()).not.toMatch(/xz|zstd/);
  });
});
