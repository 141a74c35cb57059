#pragma once

#include <cstdint>
#include <optional>
#include <vector>

struct DataRange {
  int64_t start;
  int64_t end;
};

/** The first data at or after `offset`, or nothing where only a hole follows. Moves the file position. */
std::optional<DataRange> NextData(int fd, int64_t offset);

/** All data from `start` to `end`, in order, without what lies outside. Moves the file position. */
std::vector<DataRange> DataRanges(int fd, int64_t start, int64_t end);

/** How many of the bytes that the file system has allocated for the file other files share (FIEMAP). */
uint64_t SharedBytes(int fd);

/** Copies `length` bytes and starts their writeback. ENODATA where the source ends before. */
void CopyRange(int source, int destination, int64_t source_offset, int64_t destination_offset, int64_t length);

/**
 * Makes `destination` share the blocks of a range of `source` (FICLONERANGE), holes included. False where the host
 * can't: another file system, one without reflinks, or offsets that are not multiples of its blocks.
 */
bool ShareRange(int source, int destination, int64_t source_offset, int64_t destination_offset, int64_t length);
