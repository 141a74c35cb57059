#include "sparse.h"

#include <fcntl.h>
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <vector>

#include "system.h"

namespace {

constexpr int64_t kWritebackStep = 8 << 20;
constexpr int64_t kBufferSize = 1 << 20;
/** Below this the kernel's own copy, by pipes and pages, costs more than it saves. */
constexpr int64_t kSmall = 128 << 10;

int64_t Seek(int fd, int64_t offset, int whence) {
  int64_t found = lseek(fd, offset, whence);
  return found < 0 && errno == ENXIO ? -1 : CheckOn(fd, found, "lseek");
}

/** Whether copy_file_range can't serve these two files at all, though read and write can. */
bool NeedsBuffer(int error) {
  return error == EXDEV || error == EINVAL || error == EOPNOTSUPP || error == ENOSYS;
}

void WriteAll(int fd, const char* data, int64_t length, int64_t offset) {
  while (length > 0) {
    int64_t written = pwrite(fd, data, length, offset);
    if (written < 0 && errno == EINTR) continue;
    CheckOn(fd, written, "pwrite");
    data += written, offset += written, length -= written;
  }
}

class Copier {
 public:
  Copier(int source, int destination) : source_(source), destination_(destination) {}

  /** ENODATA where the source ends before. */
  void Copy(int64_t from, int64_t to, int64_t length) {
    for (int64_t done = 0; done < length;) {
      int64_t copied = CopySome(from + done, to + done, std::min(length - done, kWritebackStep));
      if (copied == 0) throw SystemFailure{ENODATA, "copy_file_range", PathOf(source_)};
      // Else the whole file would lie dirty until the closing fsync. Small ranges wait for those that come between
      // them.
      if (copied >= kSmall) StartWriteback(destination_, to + done, copied);
      done += copied;
    }
  }

 private:
  /** Copies at most `length` bytes and returns how many; 0 at the end of the source. */
  int64_t CopySome(int64_t from, int64_t to, int64_t length) {
    if (!needs_buffer_ && length >= kSmall) {
      off64_t source_offset = from, destination_offset = to;
      int64_t copied = copy_file_range(source_, &source_offset, destination_, &destination_offset, length, 0);
      if (copied > 0 || (copied < 0 && !NeedsBuffer(errno))) return CheckOn(destination_, copied, "copy_file_range");
      // Some file systems answer 0 where they can't; read tells the real end of the file.
      needs_buffer_ = true;
    }
    buffer_.resize(kBufferSize);
    int64_t count = CheckOn(source_, pread(source_, buffer_.data(), std::min(length, kBufferSize), from), "pread");
    WriteAll(destination_, buffer_.data(), count, to);
    return count;
  }

  int source_;
  int destination_;
  bool needs_buffer_ = false;
  std::vector<char> buffer_;
};

/** Whether the two ranges could be made to share blocks; false where the host can't. */
bool ShareRange(int source, int destination, int64_t from, int64_t to, int64_t length) {
  file_clone_range range{};
  range.src_fd = source;
  range.src_offset = static_cast<uint64_t>(from);
  range.src_length = static_cast<uint64_t>(length);
  range.dest_offset = static_cast<uint64_t>(to);
  if (ioctl(destination, FICLONERANGE, &range) == 0) return true;
  if (errno == EOPNOTSUPP || errno == EXDEV || errno == EINVAL || errno == ENOTTY || errno == EPERM) return false;
  CheckOn(destination, -1, "ioctl(FICLONERANGE)");
  return false;
}

}  // namespace

std::optional<DataRange> NextData(int fd, int64_t offset) {
  int64_t start = Seek(fd, offset, SEEK_DATA);
  if (start < 0) return std::nullopt;
  int64_t end = Seek(fd, start, SEEK_HOLE);
  if (end < 0) return std::nullopt;  // the file was cut between the two calls
  return DataRange{start, end};
}

std::vector<DataRange> DataRanges(int fd, int64_t start, int64_t end) {
  std::vector<DataRange> ranges;
  while (start < end) {
    std::optional<DataRange> range = NextData(fd, start);
    if (!range || range->start >= end) break;
    ranges.push_back({range->start, std::min(range->end, end)});
    start = range->end;
  }
  return ranges;
}

uint64_t SharedBytes(int fd) {
  constexpr unsigned kBatch = 512;
  alignas(fiemap) char memory[sizeof(fiemap) + kBatch * sizeof(fiemap_extent)];
  auto* map = reinterpret_cast<fiemap*>(memory);
  uint64_t sum = 0;
  for (uint64_t position = 0;;) {
    *map = {};
    map->fm_start = position;
    map->fm_length = FIEMAP_MAX_OFFSET - position;
    map->fm_extent_count = kBatch;
    CheckOn(fd, ioctl(fd, FS_IOC_FIEMAP, map), "ioctl(FIEMAP)");
    for (unsigned i = 0; i < map->fm_mapped_extents; i++) {
      const fiemap_extent& extent = map->fm_extents[i];
      if (extent.fe_flags & FIEMAP_EXTENT_SHARED) sum += extent.fe_length;
      if (extent.fe_flags & FIEMAP_EXTENT_LAST) return sum;
      position = extent.fe_logical + extent.fe_length;
    }
    if (map->fm_mapped_extents == 0) return sum;
  }
}

std::optional<int64_t> ShareSome(int source, int destination, int64_t offset) {
  // XFS takes some 7 µs for each.
  constexpr unsigned kExtents = 256;
  alignas(fiemap) char memory[sizeof(fiemap) + kExtents * sizeof(fiemap_extent)];
  auto* map = reinterpret_cast<fiemap*>(memory);
  *map = {};
  map->fm_start = static_cast<uint64_t>(offset);
  map->fm_length = FIEMAP_MAX_OFFSET - map->fm_start;
  map->fm_extent_count = kExtents;
  const int told = ioctl(source, FS_IOC_FIEMAP, map);
  if (told != 0 && (errno == EOPNOTSUPP || errno == ENOTTY)) return std::nullopt;
  CheckOn(source, told, "ioctl(FIEMAP)");
  if (map->fm_mapped_extents == 0) return std::nullopt;
  const fiemap_extent& last = map->fm_extents[map->fm_mapped_extents - 1];
  struct stat status;
  CheckOn(source, fstat(source, &status), "fstat");
  // There may be space behind the file's end.
  const auto start = static_cast<int64_t>(map->fm_extents[0].fe_logical);
  const auto end = std::min(static_cast<int64_t>(last.fe_logical + last.fe_length), int64_t{status.st_size});
  if (start >= end || !ShareRange(source, destination, start, start, end - start)) return std::nullopt;
  if (last.fe_flags & FIEMAP_EXTENT_LAST) return std::nullopt;
  return end;
}

void StartWriteback(int fd, int64_t offset, int64_t length) {
  sync_file_range(fd, offset, length, SYNC_FILE_RANGE_WRITE);
}

int64_t CopyRanges(int source, int destination, int64_t shift, const std::vector<DataRange>& ranges, bool share) {
  Copier copier(source, destination);
  int64_t shared = 0;
  for (const auto& [start, end] : ranges) {
    share = share && ShareRange(source, destination, start + shift, start, end - start);
    if (share) {
      shared += end - start;
      continue;
    }
    copier.Copy(start + shift, start, end - start);
  }
  return shared;
}
