let table: Uint32Array | undefined;

function makeTable(): Uint32Array {
  return new Uint32Array(256).map((_, index) => {
    let value = index;
    for (let bit = 0; bit < 8; bit++) value = value & 1 ? (value >>> 1) ^ 0x82f63b78 : value >>> 1;
    return value;
  });
}

/**
 * CRC-32C (Castagnoli) as an unsigned number. `seed` is the checksum of what comes before:
 * `crc32c(b, crc32c(a))` is the checksum of a followed by b. ext4 stores its complement.
 */
export function crc32c(bytes: Uint8Array, seed = 0): number {
  const remainders = (table ??= makeTable());
  let crc = ~seed;
  for (const byte of bytes) crc = (crc >>> 8) ^ (remainders[(crc ^ byte) & 0xff] as number);
  return ~crc >>> 0;
}

const pageLength = 4096;
const zeroPage = Buffer.alloc(pageLength);
let overZeroPage: Uint32Array | undefined;

/** As `crc32c` of whole pages of 4096 bytes, fast where most of them hold nothing but zeroes: maps of large disks. */
export function crc32cOfPages(bytes: Buffer, seed = 0): number {
  let crc = seed;
  for (let position = 0; position < bytes.length; position += pageLength) {
    const page = bytes.subarray(position, position + pageLength);
    crc = page.equals(zeroPage) ? crc32cOfZeroPage(crc) : crc32c(page, crc);
  }
  return crc;
}

/** The checksum of so many pages of zeroes behind what `seed` is of. */
export function crc32cOfZeroPages(count: number, seed = 0): number {
  let crc = seed;
  for (let page = 0; page < count; page++) crc = crc32cOfZeroPage(crc);
  return crc;
}

/** What zeroes make of the register is linear in its bits, and of a register of 0 nothing: four tables, one for each byte. */
function crc32cOfZeroPage(seed: number): number {
  const tables = (overZeroPage ??= makeZeroPageTables());
  let register = 0;
  for (let byte = 0; byte < 4; byte++) register ^= tables[byte * 256 + ((~seed >>> (8 * byte)) & 0xff)] as number;
  return ~register >>> 0;
}

function makeZeroPageTables(): Uint32Array {
  const ofBit = Array.from({ length: 32 }, (_, bit) => ~crc32c(zeroPage, ~(1 << bit) >>> 0));
  return new Uint32Array(4 * 256).map((_, index) => {
    let value = 0;
    for (let bit = 0; bit < 8; bit++) if ((index >> bit) & 1) value ^= ofBit[(index >> 8) * 8 + bit] as number;
    return value;
  });
}
