import { PassThrough } from 'node:stream';
import { describe, expect, it } from 'vitest';
import { tarSource } from '../../../src/image/read-tar';
import { KiB, MiB } from '../../../src/units';
import { seededBytes } from './golden';
import { contents, endOfArchive, entry, pax, rawHeader, readAll, tar } from './tar-builder';

const second = 1_000_000_000n;

describe('readTar', () => {
  it('reads every kind of entry', async () => {
    const entries = await readAll(
      tar(
        entry({ name: './', type: '5', mode: '0000755' }),
        entry({ name: './etc/', type: '5', mode: '0001777', uid: '0000012', gid: '0000144' }),
        entry({ name: './etc/passwd', mtime: '00000000017' }, 'root:x:0:0\n'),
        entry({ name: './etc/empty' }),
        entry({ name: './su', mode: '0004755' }, 'x'),
        entry({ name: 'old', type: '\0' }, 'y'),
        entry({ name: 'contiguous', type: '7' }, 'z'),
        entry({ name: 'link', type: '2', linkname: '../../outside//' }),
        entry({ name: 'hard', type: '1', linkname: './etc/passwd' }),
        entry({ name: 'null', type: '3', devmajor: '0000001', devminor: '0000003' }),
        entry({ name: 'disk', type: '4', devmajor: '0000010', devminor: '0000021' }),
        entry({ name: 'pipe', type: '6' }),
      ),
    );
    expect(entries).toMatchObject([
      { path: '.', type: 'directory', mode: 0o755, uid: 0, gid: 0 },
      { path: 'etc', type: 'directory', mode: 0o1777, uid: 10, gid: 100 },
      { path: 'etc/passwd', type: 'file', mode: 0o644, mtimeNs: 15n * second, content: Buffer.from('root:x:0:0\n') },
      { path: 'etc/empty', type: 'file' },
      { path: 'su', type: 'file', mode: 0o4755 },
      { path: 'old', type: 'file' },
      { path: 'contiguous', type: 'file', content: Buffer.from('z') },
      { path: 'link', type: 'symlink', target: '../../outside//' },
      { path: 'hard', type: 'hardlink', target: 'etc/passwd' },
      { path: 'null', type: 'character', major: 1, minor: 3 },
      { path: 'disk', type: 'block', major: 8, minor: 17 },
      { path: 'pipe', type: 'fifo' },
    ]);
  });

  it('takes absolute names relative to the root, and old directories by their slash', async () => {
    const entries = await readAll(
      tar(
        entry({ name: '/etc//./x' }),
        entry({ name: 'v7/', magic: '', type: '\0' }),
        entry({ name: 'name', prefix: 'a/b' }),
        entry({ name: 'to', type: '1', linkname: '/etc/x' }),
      ),
    );
    expect(entries.map(({ path, type, target }) => [path, type, target])).toEqual([
      ['etc/x', 'file', undefined],
      ['v7', 'directory', undefined],
      ['a/b/name', 'file', undefined],
      ['to', 'hardlink', 'etc/x'],
    ]);
  });

  it('applies PAX records', async () => {
    const [file, link, early] = await readAll(
      tar(
        pax({
          path: `${'long/'.repeat(100)}nä me`,
          uid: '4000000000',
          gid: '3000000',
          mtime: '1700000000.123456789',
          size: '3',
          atime: '1.5',
        }),
        entry({ name: 'short', size: 3 }, 'abc'),
        pax({ linkpath: 'y'.repeat(300), path: 'l' }),
        entry({ name: 'l', type: '2', linkname: 'short' }),
        pax({ mtime: '-1.5' }),
        entry({ name: 'early' }),
      ),
    );
    expect(file).toMatchObject({
      path: `${'long/'.repeat(100)}nä me`,
      uid: 4_000_000_000,
      gid: 3_000_000,
      mtimeNs: 1_700_000_000_123_456_789n,
      content: Buffer.from('abc'),
    });
    expect(link).toMatchObject({ path: 'l', target: 'y'.repeat(300) });
    expect(early).toMatchObject({ mtimeNs: -1_500_000_000n });
  });

  it('applies GNU long names and binary numbers', async () => {
    const binary = (value: bigint, length: number) => {
      const bytes = Buffer.alloc(length, value < 0n ? 0xff : 0);
      bytes.writeBigInt64BE(value, length - 8);
      if (value >= 0n) bytes[0] = 0x80;
      return bytes;
    };
    const [file, link] = await readAll(
      tar(
        entry({ name: '././@LongLink', type: 'L' }, `${'n'.repeat(200)}\0`),
        entry({ name: 'n', uid: Buffer.from([0x80, 0, 0, 0, 0x80, 0, 0, 1]), mtime: binary(-86400n, 12), magic: 'ustar  \0' }),
        entry({ name: '././@LongLink', type: 'K' }, `${'t'.repeat(200)}\0`),
        entry({ name: 'l', type: '2', linkname: 't', mtime: binary(2n ** 33n, 12), magic: 'ustar  \0' }),
      ),
    );
    expect(file).toMatchObject({ path: 'n'.repeat(200), uid: 2 ** 31 + 1, mtimeNs: -86400n * second });
    expect(link).toMatchObject({ target: 't'.repeat(200), mtimeNs: 2n ** 33n * second });
  });

  it('heeds global PAX records where they change content, and forgets what they say beside', async () => {
    const entries = await readAll(
      tar(
        pax({ comment: '0123abcd' }, 'g'),
        entry({ name: 'a' }),
        pax({ uid: '7' }, 'g'),
        entry({ name: 'b' }),
        pax({ gid: '8' }),
        entry({ name: 'c' }),
      ),
    );
    expect(entries).toMatchObject([{ uid: 0 }, { uid: 7, gid: 0 }, { uid: 7, gid: 8 }]);
    await expect(readAll(tar(pax({ 'SCHILY.acl.access': 'user::rwx' }, 'g'), entry({ name: 'a' })))).rejects.toMatchObject({
      code: 'ERR_LOOPBOX_NOT_SUPPORTED',
    });
  });

  it('keeps extended attributes that are text, or in base64', async () => {
    const capability = Buffer.from('0100000202200000000000000000000000000000', 'hex');
    const [entry1, entry2] = await readAll(
      tar(
        pax({
          'SCHILY.xattr.user.n%3Dame': 'vä=lue\n',
          'SCHILY.xattr.security.capability': capability,
          'RHT.security.selinux': 'system_u:object_r:etc_t:s0',
        }),
        entry({ name: 'a' }),
        pax({ 'SCHILY.xattr.user.x': Buffer.from([0xff]), 'LIBARCHIVE.xattr.user.x': '/w' }),
        entry({ name: 'b' }),
      ),
    );
    expect(entry1?.xattrs).toEqual([
      { name: 'user.n=ame', value: Buffer.from('vä=lue\n') },
      { name: 'security.capability', value: capability },
      { name: 'security.selinux', value: Buffer.from('system_u:object_r:etc_t:s0\0') },
    ]);
    expect(entry2?.xattrs).toEqual([{ name: 'user.x', value: Buffer.from([0xff]) }]);
  });

  it.each<[string, Buffer, string]>([
    ['a GNU sparse file', entry({ name: 'bad', type: 'S' }), 'sparse'],
    [
      'a PAX sparse file',
      Buffer.concat([pax({ 'GNU.sparse.major': '1', 'GNU.sparse.minor': '0', 'GNU.sparse.name': 'bad' }), entry({ name: 'bad' })]),
      'sparse',
    ],
    ['an unknown type', entry({ name: 'bad', type: 'Q' }), 'of another type'],
    ['a multi-volume part', entry({ name: 'bad', type: 'M' }), 'of another type'],
    [
      'a binary attribute',
      Buffer.concat([pax({ 'SCHILY.xattr.user.bin': Buffer.from([0x80, 1, 2]) }), entry({ name: 'bad' })]),
      'its extended attribute "user.bin" is not text',
    ],
    ['an ACL', Buffer.concat([pax({ 'SCHILY.acl.default': 'user::rwx' }), entry({ name: 'bad', type: '5' })]), 'access control list'],
    ['file flags', Buffer.concat([pax({ 'SCHILY.fflags': 'immutable' }), entry({ name: 'bad' })]), 'file flags'],
    ['a name that is not UTF-8', entry({ name: Buffer.from('bad\xff', 'latin1') }), 'its name is not UTF-8'],
    ['a time in 2400', Buffer.concat([pax({ mtime: '13569465600' }), entry({ name: 'bad' })]), 'after 2262'],
    ['a time in 1900', Buffer.concat([pax({ mtime: '-2208988800.5' }), entry({ name: 'bad' })]), 'before 1901'],
    [
      'a PAX name that is not UTF-8',
      Buffer.concat([pax({ path: Buffer.from('bad\xff', 'latin1'), hdrcharset: 'BINARY' }), entry({ name: 'x' })]),
      'its name is not UTF-8',
    ],
  ])('ends at %s with 15, naming the entry', async (_, part, words) => {
    const error: unknown = await readAll(tar(entry({ name: 'good' }, 'x'), part, entry({ name: 'after' }))).catch(
      (error: unknown) => error,
    );
    expect(error).toMatchObject({
      code: 'ERR_LOOPBOX_NOT_SUPPORTED',
      message: expect.stringMatching(/^Cannot import "x.tar": entry "bad.?" can't be kept whole: /),
    });
    expect((error as Error).message).toContain(words);
  });

  it.each<[string, Buffer, string]>([
    ['a name through ".."', entry({ name: 'a/../../etc/passwd' }, 'x'), '..'],
    ['a hard link through ".."', entry({ name: 'a', type: '1', linkname: '../etc/shadow' }), '..'],
    ['a link to nothing', entry({ name: 'a', type: '2' }), 'a link to nothing'],
    ['no name', entry({ name: '' }), 'no name'],
    ['a file as the root', entry({ name: './.' }), 'root'],
    ['a NUL in a PAX name', Buffer.concat([pax({ path: 'a\0b' }), entry({ name: 'x' })]), 'NUL'],
    ['a size that is no number', entry({ name: 'a', size: Buffer.alloc(12, 0xfe) }, 'x'), 'size'],
    ['a size beyond 2^53', entry({ name: 'a', size: Buffer.from('800000000100000000000000', 'hex') }, 'x'), 'size'],
    ['an owner that is no number', entry({ name: 'a', uid: 'abc' }), 'owner'],
    ['a PAX owner beyond 32 bits', Buffer.concat([pax({ uid: '4294967295' }), entry({ name: 'a' })]), 'owner'],
    ['a time that is no number', Buffer.concat([pax({ mtime: 'soon' }), entry({ name: 'a' })]), 'time'],
    ['a device that Linux can not number', entry({ name: 'a', type: '3', devmajor: '7777777' }), 'device'],
    ['a fifo with content', entry({ name: 'a', type: '6' }, 'x'), 'has content and is no file'],
  ])('refuses %s with 13', async (_, part, words) => {
    const error: unknown = await readAll(tar(part)).catch((error: unknown) => error);
    expect(error).toMatchObject({ code: 'ERR_LOOPBOX_CORRUPT' });
    expect((error as Error).message).toContain(words);
  });

  it.each<[string, Buffer, RegExp]>([
    ['noise', seededBytes(1, 10_000), /^Cannot import "x.tar": it is not a tar archive$/],
    ['nothing', Buffer.alloc(0), /it holds no entries/],
    ['only an end', endOfArchive, /it holds no entries/],
    ['text', Buffer.from('hello\n'), /cut short|not a tar/],
    ['a wrong header checksum', tar(entry({ name: 'a' }), Buffer.alloc(512, 7)), /it is damaged after entry "a"/],
    [
      'an end in a header',
      Buffer.concat([entry({ name: 'a' }), rawHeader({ name: 'b' }).subarray(0, 200)]),
      /it is cut short after entry "a"/,
    ],
    [
      'an end in content',
      tar(entry({ name: 'a' }), entry({ name: 'b' }, 'x'.repeat(2000))).subarray(0, 2048),
      /it is cut short after entry "a"/,
    ],
    ['an end between entries', entry({ name: 'a' }, 'x'), /it is cut short after entry "a"/],
    ['an end between entries, after zeroes', entry({ name: 'a' }, Buffer.alloc(1024)), /it is cut short after entry "a"/],
    ['an end after a PAX header', Buffer.concat([entry({ name: 'a' }), pax({ path: 'b' })]), /it is cut short after entry "a"/],
  ])('says of %s what it is, with 13', async (_, bytes, message) => {
    for (const chunkLength of [100, 512, 65536]) {
      await expect(readAll(bytes, { chunkLength })).rejects.toMatchObject({
        code: 'ERR_LOOPBOX_CORRUPT',
        message: expect.stringMatching(message),
      });
    }
  });

  it('throws nothing but LoopboxError at damaged archives', async () => {
    const whole = tar(
      entry({ name: 'dir/', type: '5' }),
      pax({ path: 'x', mtime: '1.5', 'SCHILY.xattr.user.a': 'b' }),
      entry({ name: 'x' }, 'content'),
      entry({ name: 'l', type: '2', linkname: 'x' }),
    );
    for (let seed = 0; seed < 400; seed++) {
      const bytes = Buffer.from(whole);
      const noise = seededBytes(seed, 12);
      for (let i = 0; i < 3; i++) bytes[noise.readUInt16LE(i * 4) % bytes.length] = noise[i * 4 + 2] as number;
      const error: unknown = await readAll(bytes).then(
        () => undefined,
        (error: unknown) => error,
      );
      if (error !== undefined) expect(error).toMatchObject({ name: 'LoopboxError' });
    }
  });

  it('hands large files on in pieces, and never much at once', async () => {
    const large = seededBytes(5, 5 * MiB + 123);
    const archive = tar(entry({ name: 'a' }, 'x'), entry({ name: 'large', mode: '0004755' }, large), entry({ name: 'b' }, 'y'));
    for (const chunkLength of [64 * KiB, MiB, 3 * MiB]) {
      const chunks = Array.from({ length: Math.ceil(archive.length / chunkLength) }, (_, i) =>
        archive.subarray(i * chunkLength, (i + 1) * chunkLength),
      );
      const entries = [];
      for await (const batch of tarSource(PassThrough.from(chunks), 'x.tar').entries()) {
        expect(batch.reduce((total, { content }) => total + (content?.length ?? 0), 0)).toBeLessThan(2 * MiB + Math.max(chunkLength, MiB));
        entries.push(...batch);
      }
      const pieces = entries.filter(({ path }) => path === 'large');
      expect(pieces.map(({ append }) => append ?? false)).toEqual(pieces.map((_, index) => index > 0));
      expect(pieces.every(({ mode }) => mode === 0o4755)).toBe(true);
      expect(contents(entries).get('large')?.equals(large)).toBe(true);
      expect(contents(entries).get('b')?.toString()).toBe('y');
    }
  });

  it('batches many small entries', async () => {
    const archive = tar(...Array.from({ length: 1200 }, (_, i) => entry({ name: `f${i}` }, `${i}`)));
    const sizes = [];
    for await (const batch of tarSource(PassThrough.from([archive]), 'x.tar').entries()) sizes.push(batch.length);
    expect(sizes).toEqual([500, 500, 200]);
  });
});
