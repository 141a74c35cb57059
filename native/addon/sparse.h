#pragma once

#include <cstdint>
#include <optional>

struct DataRange {
  int64_t start;
  int64_t end;
};

struct Extents {
  uint64_t allocated;
  uint64_t shared;
};

/** The first data at or after `offset`, or nothing where only a hole follows. Moves the file position. */
std::optional<DataRange> NextData(int fd, int64_t offset);

/** Bytes that the file system has allocated for the file, and how many of them other files share. */
Extents FileExtents(int fd);

/** Copies `length` bytes to the same offset and starts their writeback. ENODATA where the source ends before. */
void CopyRange(int source, int destination, int64_t offset, int64_t length);
