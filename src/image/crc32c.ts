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
