#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstring>

// Searches in maps, by words of 64 bits or 8 owners. Ranges are [begin, end), and the result is at most `end`.

/** The first bit of this value at or after `begin`. */
template <bool value>
uint64_t NextBit(const uint64_t* words, uint64_t begin, uint64_t end) {
  if (begin >= end) return end;
  uint64_t index = begin / 64;
  auto word = [&] { return value ? words[index] : ~words[index]; };
  uint64_t found = word() & ~uint64_t{0} << begin % 64;
  while (!found) {
    if (++index * 64 >= end) return end;
    found = word();
  }
  return std::min(end, index * 64 + std::countr_zero(found));
}

inline bool IsSet(const uint64_t* words, uint64_t bit) {
  return words[bit / 64] >> bit % 64 & 1;
}

inline void SetBitRange(uint64_t* words, uint64_t begin, uint64_t end) {
  while (begin < end) {
    uint64_t first = begin % 64, count = std::min(end - begin, 64 - first);
    words[begin / 64] |= ~uint64_t{0} >> (64 - count) << first;
    begin += count;
  }
}

/** Eight times the same byte. */
constexpr uint64_t Repeated(uint8_t byte) {
  return byte * 0x0101010101010101u;
}

/** The first byte after `begin` that differs from the one there. */
inline uint64_t NextOther(const uint8_t* bytes, uint64_t begin, uint64_t end) {
  uint8_t same = bytes[begin];
  uint64_t at = begin + 1;
  for (; at < end && at % 8; at++) {
    if (bytes[at] != same) return at;
  }
  for (; at < end; at += 8) {
    uint64_t word;
    std::memcpy(&word, bytes + at, sizeof word);
    if (uint64_t other = word ^ Repeated(same)) return std::min<uint64_t>(end, at + std::countr_zero(other) / 8);
  }
  return end;
}
