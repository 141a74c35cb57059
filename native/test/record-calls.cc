// Records what a program does to files below a directory: LD_PRELOAD=loopbox-record.so, LOOPBOX_RECORD is the
// directory, LOOPBOX_RECORD_LOG the log that it is appended to.

#include <fcntl.h>
#include <linux/fs.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>
#include <vector>

#include "hidden-calls.h"
#include "record-log.h"
#include "record-paths.h"

namespace {

/** A write that has come through. */
void Wrote(int fd, const void* data, ssize_t length, off_t offset) {
  if (length <= 0) return;
  if (uint64_t inode = RecordedInode(fd)) {
    AppendRecord({.record = Record::kWrite,
                  .inode = inode,
                  .offset = static_cast<uint64_t>(offset),
                  .data = {static_cast<const char*>(data), static_cast<size_t>(length)}});
  }
}

/** As `Wrote`, of what the kernel has moved: as it is in the file. */
void Moved(int fd, off_t offset, size_t length) {
  if (!RecordedInode(fd)) return;
  int error = errno;
  // Descriptors of files that are only written to can't be read.
  int reader = HIDDEN(open)(("/proc/self/fd/" + std::to_string(fd)).c_str(), O_RDONLY | O_CLOEXEC);
  if (reader < 0) abort();
  std::vector<char> bytes(1 << 20);
  while (length > 0) {
    ssize_t count = pread(reader, bytes.data(), std::min(length, bytes.size()), offset);
    if (count <= 0) break;
    Wrote(fd, bytes.data(), count, offset);
    offset += count, length -= static_cast<size_t>(count);
  }
  close(reader);
  errno = error;
}

void Gathered(int fd, const iovec* parts, int count, ssize_t length, off_t offset) {
  for (int i = 0; i < count && length > 0; i++) {
    ssize_t part = std::min(length, static_cast<ssize_t>(parts[i].iov_len));
    Wrote(fd, parts[i].iov_base, part, offset);
    offset += part, length -= part;
  }
}

/** Where a write without an offset has gone that has come through. */
off_t Behind(int fd, ssize_t length) {
  int error = errno;
  off_t end = lseek(fd, 0, SEEK_CUR);
  errno = error;
  return end - length;
}

template <typename Call>
int Sync(int fd, Call call) {
  uint64_t inode = RecordedInode(fd);
  if (!inode) return call();
  uint64_t id = NewRecordId();
  AppendRecord({.record = Record::kSync, .inode = inode, .id = id});
  int result = call();
  if (result == 0) AppendRecord({.record = Record::kEnd, .id = id});
  return result;
}

int Truncated(int result, int fd, off_t length) {
  uint64_t inode = result == 0 ? RecordedInode(fd) : 0;
  if (inode) AppendRecord({.record = Record::kSetLength, .inode = inode, .length = static_cast<uint64_t>(length)});
  return result;
}

int Allocated(int result, int fd, int mode, off_t offset, off_t length) {
  uint64_t inode = result == 0 ? RecordedInode(fd) : 0;
  if (!inode) return result;
  auto start = static_cast<uint64_t>(offset), bytes = static_cast<uint64_t>(length);
  if (mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE))
    AppendRecord({.record = Record::kPunch, .inode = inode, .offset = start, .length = bytes});
  if (!(mode & FALLOC_FL_KEEP_SIZE)) AppendRecord({.record = Record::kExtend, .inode = inode, .length = start + bytes});
  return result;
}

uint64_t InodeAt(int directory, const char* path) {
  struct stat status;
  int error = errno;
  uint64_t inode = fstatat(directory, path, &status, AT_SYMLINK_NOFOLLOW) == 0 ? status.st_ino : 0;
  errno = error;
  return inode;
}

int Open(const char* function, int directory, const char* path, int flags, mode_t mode) {
  bool is_new = (flags & O_CREAT) && !RecordedPath(directory, path).empty() && !InodeAt(directory, path);
  int fd = Hidden<decltype(::openat)>(function)(directory, path, flags, mode);
  if (fd < 0) return fd;
  bool is_nameless = (flags & O_TMPFILE) == O_TMPFILE;
  if (is_new || is_nameless) {
    if (uint64_t inode = RecordedInode(fd)) {
      AppendRecord(
          {.record = Record::kCreate, .inode = inode, .path = is_nameless ? "" : RecordedPath(directory, path)});
    }
  } else if (flags & O_TRUNC) {
    Truncated(0, fd, 0);
  }
  return fd;
}

mode_t ModeOf(int flags, va_list& list) {
  return flags & (O_CREAT | (O_TMPFILE & ~O_DIRECTORY)) ? va_arg(list, mode_t) : 0;
}

int Named(int result, Record record, int directory, const char* path, int other_directory, const char* other) {
  if (result != 0) return result;
  std::string from = RecordedPath(directory, path), to = RecordedPath(other_directory, other);
  if (record == Record::kLink && !to.empty())
    AppendRecord({.record = record, .inode = InodeAt(other_directory, other), .path = to});
  if (record == Record::kRename && from.empty() != to.empty()) abort();
  if (record == Record::kRename && !to.empty()) AppendRecord({.record = record, .path = from, .other = to});
  return result;
}

int Unlinked(int result, int directory, const char* path) {
  std::string name = result == 0 ? RecordedPath(directory, path) : "";
  if (!name.empty()) AppendRecord({.record = Record::kUnlink, .path = name});
  return result;
}

}  // namespace

#define RECORDED extern "C" __attribute__((visibility("default")))

RECORDED ssize_t pwrite(int fd, const void* data, size_t length, off_t offset) {
  ssize_t result = HIDDEN(pwrite)(fd, data, length, offset);
  Wrote(fd, data, result, offset);
  return result;
}
RECORDED ssize_t pwrite64(int fd, const void* data, size_t length, off_t offset) {
  return pwrite(fd, data, length, offset);
}
RECORDED ssize_t write(int fd, const void* data, size_t length) {
  if (!IsFile(fd)) return syscall(SYS_write, fd, data, length);
  ssize_t result = HIDDEN(write)(fd, data, length);
  if (result > 0 && RecordedInode(fd)) Wrote(fd, data, result, Behind(fd, result));
  return result;
}
RECORDED ssize_t pwritev(int fd, const iovec* parts, int count, off_t offset) {
  ssize_t result = HIDDEN(pwritev)(fd, parts, count, offset);
  Gathered(fd, parts, count, result, offset);
  return result;
}
RECORDED ssize_t pwritev64(int fd, const iovec* parts, int count, off_t offset) {
  return pwritev(fd, parts, count, offset);
}
RECORDED ssize_t writev(int fd, const iovec* parts, int count) {
  ssize_t result = HIDDEN(writev)(fd, parts, count);
  if (result > 0 && RecordedInode(fd)) Gathered(fd, parts, count, result, Behind(fd, result));
  return result;
}
RECORDED ssize_t copy_file_range(int from, off_t* from_offset, int to, off_t* to_offset, size_t length,
                                 unsigned flags) {
  off_t start = to_offset ? *to_offset : 0;
  ssize_t result = HIDDEN(copy_file_range)(from, from_offset, to, to_offset, length, flags);
  if (result > 0) Moved(to, to_offset ? start : Behind(to, result), static_cast<size_t>(result));
  return result;
}

RECORDED int fsync(int fd) {
  return Sync(fd, [fd] { return HIDDEN(fsync)(fd); });
}
RECORDED int fdatasync(int fd) {
  return Sync(fd, [fd] { return HIDDEN(fdatasync)(fd); });
}

RECORDED int ftruncate(int fd, off_t length) {
  return Truncated(HIDDEN(ftruncate)(fd, length), fd, length);
}
RECORDED int ftruncate64(int fd, off_t length) {
  return ftruncate(fd, length);
}
RECORDED int fallocate(int fd, int mode, off_t offset, off_t length) {
  return Allocated(HIDDEN(fallocate)(fd, mode, offset, length), fd, mode, offset, length);
}
RECORDED int fallocate64(int fd, int mode, off_t offset, off_t length) {
  return fallocate(fd, mode, offset, length);
}

RECORDED int ioctl(int fd, unsigned long request, ...) {
  va_list list;
  va_start(list, request);
  auto argument = va_arg(list, unsigned long);
  va_end(list);
  int result = HIDDEN(ioctl)(fd, request, argument);
  if (result != 0 || (request != FICLONE && request != FICLONERANGE)) return result;
  const auto* range = request == FICLONERANGE ? reinterpret_cast<const file_clone_range*>(argument) : nullptr;
  Moved(fd, range ? static_cast<off_t>(range->dest_offset) : 0,
        range && range->src_length ? range->src_length : SIZE_MAX);
  return result;
}

RECORDED int open(const char* path, int flags, ...) {
  va_list list;
  va_start(list, flags);
  mode_t mode = ModeOf(flags, list);
  va_end(list);
  return Open("openat", AT_FDCWD, path, flags, mode);
}
RECORDED int open64(const char* path, int flags, ...) {
  va_list list;
  va_start(list, flags);
  mode_t mode = ModeOf(flags, list);
  va_end(list);
  return Open("openat64", AT_FDCWD, path, flags, mode);
}
RECORDED int openat(int directory, const char* path, int flags, ...) {
  va_list list;
  va_start(list, flags);
  mode_t mode = ModeOf(flags, list);
  va_end(list);
  return Open("openat", directory, path, flags, mode);
}
RECORDED int openat64(int directory, const char* path, int flags, ...) {
  va_list list;
  va_start(list, flags);
  mode_t mode = ModeOf(flags, list);
  va_end(list);
  return Open("openat64", directory, path, flags, mode);
}

RECORDED int rename(const char* from, const char* to) {
  return Named(HIDDEN(rename)(from, to), Record::kRename, AT_FDCWD, from, AT_FDCWD, to);
}
RECORDED int renameat(int directory, const char* from, int other, const char* to) {
  return Named(HIDDEN(renameat)(directory, from, other, to), Record::kRename, directory, from, other, to);
}
RECORDED int renameat2(int directory, const char* from, int other, const char* to, unsigned flags) {
  return Named(HIDDEN(renameat2)(directory, from, other, to, flags), Record::kRename, directory, from, other, to);
}
RECORDED int link(const char* from, const char* to) {
  return Named(HIDDEN(link)(from, to), Record::kLink, AT_FDCWD, from, AT_FDCWD, to);
}
RECORDED int linkat(int directory, const char* from, int other, const char* to, int flags) {
  return Named(HIDDEN(linkat)(directory, from, other, to, flags), Record::kLink, directory, from, other, to);
}
RECORDED int unlink(const char* path) {
  return Unlinked(HIDDEN(unlink)(path), AT_FDCWD, path);
}
RECORDED int unlinkat(int directory, const char* path, int flags) {
  return Unlinked(HIDDEN(unlinkat)(directory, path, flags), directory, path);
}

/** What the recorded program itself has to say. */
RECORDED void RecordMark(const char* text) {
  if (RecordedDirectory().empty()) return;
  RecordCompletions();
  AppendRecord({.record = Record::kMark, .path = text});
}
