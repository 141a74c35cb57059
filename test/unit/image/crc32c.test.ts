import { describe, expect, it } from 'vitest';
import { crc32c, crc32cOfPages, crc32cOfZeroPages } from '../../../src/image/crc32c';
import { seededBytes } from './golden';

describe('crc32c', () => {
  it.each([
    // RFC 3720, appendix B.4, and the check value of the polynomial.
    ['32 zeroes', Buffer.alloc(32), 0x8a9136aa],
    ['32 ones', Buffer.alloc(32, 0xff), 0x62a8ab43],
    ['0 to 31', Buffer.from(Array.from({ length: 32 }, (_, i) => i)), 0x46dd794e],
    ['31 to 0', Buffer.from(Array.from({ length: 32 }, (_, i) => 31 - i)), 0x113fdb5c],
    ['123456789', Buffer.from('123456789'), 0xe3069283],
    ['nothing', Buffer.alloc(0), 0],
  ])('gives the published checksum of %s', (_, bytes, expected) => {
    expect(crc32c(bytes)).toBe(expected);
  });

  it('continues from the checksum of what comes before', () => {
    expect(crc32c(Buffer.from('56789'), crc32c(Buffer.from('1234')))).toBe(0xe3069283);
  });
});

describe('crc32cOfPages', () => {
  it('is the same, whichever pages hold nothing', () => {
    for (let pattern = 0; pattern < 64; pattern++) {
      const pages = Buffer.alloc(6 * 4096);
      for (let page = 0; page < 6; page++) if ((pattern >> page) & 1) seededBytes(page + pattern, 4096).copy(pages, page * 4096);
      expect(crc32cOfPages(pages)).toBe(crc32c(pages));
      expect(crc32cOfPages(pages.subarray(8192), crc32cOfPages(pages.subarray(0, 8192)))).toBe(crc32c(pages));
      expect(crc32cOfPages(pages, 0x12345678)).toBe(crc32c(pages, 0x12345678));
    }
  });
});

describe('crc32cOfZeroPages', () => {
  it('is the checksum of as much as that', () => {
    for (const count of [0, 1, 3]) expect(crc32cOfZeroPages(count, 0x12345678)).toBe(crc32c(Buffer.alloc(count * 4096), 0x12345678));
  });
});
