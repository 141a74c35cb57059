#pragma once

#include <cstdint>
#include <optional>

struct DataRange {
  int64_t start;
  int64_t end;
};

/** The first data at or after `offset`, or nothing where only a hole follows. Moves the file position. */
std::optional<DataRange> NextData(int fd, int64_t offset);

/** How many of the bytes that the file system has allocated for the file other files share (FIEMAP). */
uint64_t SharedBytes(int fd);

/** Copies `length` bytes to the same offset and starts their writeback. ENODATA where the source ends before. */
void CopyRange(int source, int destination, int64_t offset, int64_t length);
