import { describe, expect, it } from 'vitest';
import { LoopboxError } from '../../../src/errors';
import { parseGroup, parsePasswd, resolveUser } from '../../../src/mount/users';

const passwd = parsePasswd(
  [
    'root:x:0:0:root:/root:/bin/bash',
    'web:x:33:34::/srv/web:/bin/sh',
    '1000:x:2000:2000:named like a number:/home/odd:',
    'bare:x:7:7',
    '',
  ].join('\n'),
);
const groups = parseGroup('root:x:0:\nweb:x:34:\nadm:x:4:web,root\nlogs:x:5:web\nown:x:34:web\ntwice:x:4:web\n');
const resolve = (spec: string) => resolveUser(spec, passwd, groups);

describe('parsePasswd', () => {
  it('skips what is no entry', () => {
    const text = '# comment:x:1:1\n\nno-colons\nempty::\nminus:x:-1:0\nhex:x:0x1:0\nhuge:x:4294967295:0\nlong:x:99999999999:0\n:x:1:1\n+\n';
    expect(parsePasswd(text)).toEqual([]);
    expect(parsePasswd('ok:x:4294967294:1')).toEqual([{ name: 'ok', uid: 4294967294, gid: 1, home: '' }]);
  });

  it('survives a hostile file', () => {
    expect(parsePasswd(':'.repeat(100_000))).toEqual([]);
    expect(parsePasswd('__proto__:x:1:1::/:\n')[0]?.name).toBe('__proto__');
  });
});

describe('parseGroup', () => {
  it('reads members', () => {
    expect(parseGroup('g:x:1:a,b,\nempty:x:2:\nshort:x:3\nbad:x:x:a\n')).toEqual([
      { name: 'g', gid: 1, members: ['a', 'b'] },
      { name: 'empty', gid: 2, members: [] },
      { name: 'short', gid: 3, members: [] },
    ]);
  });
});

describe('resolveUser', () => {
  it('takes a name, with its supplementary groups once each and without its own', () => {
    expect(resolve('web')).toEqual({ uid: 33, gid: 34, groups: [4, 5], home: '/srv/web', name: 'web' });
  });

  it('takes a number, of a known user or not', () => {
    expect(resolve('33')).toEqual(resolve('web'));
    expect(resolve('4242')).toEqual({ uid: 4242, gid: 0, groups: [], home: '/', name: undefined });
  });

  it('prefers a name to the same number', () => {
    expect(resolve('1000').uid).toBe(2000);
  });

  it('takes a group, which leaves no supplementary ones', () => {
    expect(resolve('web:adm')).toMatchObject({ uid: 33, gid: 4, groups: [] });
    expect(resolve('0:77')).toMatchObject({ uid: 0, gid: 77, groups: [] });
    expect(resolve('web:')).toEqual(resolve('web'));
  });

  it('has a home for everybody', () => {
    expect(resolve('bare').home).toBe('/');
  });

  it.each(['nobody', 'web:none', '', ':adm', 'a:b:c', '4294967295', '-1'])('refuses "%s"', (spec) => {
    expect(() => resolve(spec)).toThrow(LoopboxError);
  });
});
