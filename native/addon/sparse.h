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

/**
 * Has `destination` share the data of `source` from `offset` on, as many extents as are done in a moment: who writes to
 * the source waits meanwhile. Returns where to go on; nothing where that was all, or the file system does not tell its
 * extents.
 */
std::optional<int64_t> ShareSome(int source, int destination, int64_t offset);

/** Starts the writeback of a range. Best effort: tmpfs and pipes know none. */
void StartWriteback(int fd, int64_t offset, int64_t length);

/**
 * Copies ranges of `destination` from `source`, where they lie `shift` bytes further on; starts the writeback of large
 * ones. With `share` their blocks are shared where the host can (FICLONERANGE), holes included: on one file system that
 * has reflinks, and in whole blocks. Returns how many bytes are shared. ENODATA where the source ends before a range
 * does.
 */
int64_t CopyRanges(int source, int destination, int64_t shift, const std::vector<DataRange>& ranges, bool share);
